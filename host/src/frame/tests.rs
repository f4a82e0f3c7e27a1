use super::*;
use std::net::TcpListener;

/// A header with a checksum: length and CRC-32.
#[derive(Debug, PartialEq)]
struct Checked(u32, u32);

impl Header<8> for Checked {
    fn encode(&self) -> [u8; 8] {
        let mut out = [0; 8];
        out[..4].copy_from_slice(&self.0.to_le_bytes());
        out[4..].copy_from_slice(&self.1.to_le_bytes());
        out
    }

    fn decode(bytes: [u8; 8], limit: usize) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, c0, c1, c2, c3] = bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        check_length(length as usize, limit)?;
        Ok(Checked(length, u32::from_le_bytes([c0, c1, c2, c3])))
    }

    fn body_bytes(&self) -> usize {
        self.0 as usize
    }

    fn checksum(&self) -> Option<u32> {
        Some(self.1)
    }
}

/// Reads from a slice, which is always ready.
#[cfg(feature = "async-frames")]
fn read_now<H: Header<N>, const N: usize>(
    mut bytes: &[u8],
    limit: usize,
) -> Result<Option<(H, Vec<u8>)>, FrameError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(read_async(&mut bytes, limit))
}

#[test]
fn the_length_is_in_the_byte_order_of_its_header() {
    assert_eq!(encode(&LengthLe::of(b"ab", 2).unwrap(), b"ab"), [2, 0, 0, 0, b'a', b'b']);
    assert_eq!(encode(&LengthBe::of(b"ab", 2).unwrap(), b"ab"), [0, 0, 0, 2, b'a', b'b']);
    assert!(matches!(LengthLe::of(b"ab", 1), Err(FrameError::TooLong { bytes: 2, limit: 1 })));
    assert!(matches!(LengthBe::of(b"ab", 1), Err(FrameError::TooLong { bytes: 2, limit: 1 })));
}

#[test]
fn a_frame_is_read_whole_or_refused() {
    let body = b"some bytes";
    let bytes = encode(&Checked(body.len() as u32, crc32fast::hash(body)), body);
    let (header, read_body) = read::<Checked, 8>(&mut &bytes[..], 64).unwrap();
    assert_eq!((header.body_bytes(), &read_body[..]), (10, &body[..]));
    for cut in 0..bytes.len() {
        let error = read::<Checked, 8>(&mut &bytes[..cut], 64).unwrap_err();
        assert!(matches!(error, FrameError::Truncated { bytes } if bytes == cut), "cut at {cut}: {error}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
    }
    for flip in 4..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[flip] ^= 4;
        assert!(matches!(read::<Checked, 8>(&mut &damaged[..], 64), Err(FrameError::Damaged { .. })));
    }
    assert!(matches!(
        read::<Checked, 8>(&mut &bytes[..], 9),
        Err(FrameError::TooLong { bytes: 10, limit: 9 })
    ));
}

#[cfg(feature = "async-frames")]
#[test]
fn a_frame_is_read_alike_without_blocking() {
    let bytes = encode(&LengthBe(3), b"abc");
    assert_eq!(read_now::<LengthBe, 4>(&bytes, 3).unwrap(), Some((LengthBe(3), b"abc".to_vec())));
    assert!(read_now::<LengthBe, 4>(b"", 3).unwrap().is_none());
    for cut in 1..bytes.len() {
        let error = read_now::<LengthBe, 4>(&bytes[..cut], 3).unwrap_err();
        assert!(matches!(error, FrameError::Truncated { bytes } if bytes == cut), "cut at {cut}: {error}");
    }
    assert!(matches!(read_now::<LengthBe, 4>(&bytes, 2), Err(FrameError::TooLong { bytes: 3, limit: 2 })));
}

#[test]
fn a_length_that_is_only_announced_takes_no_memory() {
    let announced = encode(&LengthLe(1 << 30), b"few");
    let error = read::<LengthLe, 4>(&mut &announced[..], 1 << 30).unwrap_err();
    assert!(matches!(error, FrameError::Truncated { bytes: 7 }), "{error}");
}

#[test]
fn a_deadline_holds_however_slowly_bytes_come() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (receiver, _) = listener.accept().unwrap();
    let trickle = std::thread::spawn(move || {
        // Until the receiver hangs up.
        while sender.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut stream = DeadlineStream::new(&receiver, Duration::from_millis(50));
    let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error}");
    drop(receiver);
    trickle.join().unwrap();
}
