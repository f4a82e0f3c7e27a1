//! Streaming decompression of `.gz` and `.zst`. A truncated stream is an error, never a short file.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// A gzip file, of any number of members.
pub fn gzip(file: File) -> impl Read + Send {
    Named { inner: MultiGzDecoder::new(BufReader::new(file)), format: "gzip" }
}

/// A zstd file, of any number of frames.
pub fn zstd(file: File) -> impl Read + Send {
    Named {
        inner: Frames { source: BufReader::new(file), decoder: FrameDecoder::new(), within: false },
        format: "zstd",
    }
}

/// Names the format in errors.
struct Named<R> {
    inner: R,
    format: &'static str,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|e| {
            let reason = match e.kind() {
                io::ErrorKind::UnexpectedEof => "it is truncated".to_owned(),
                _ => e.to_string(),
            };
            io::Error::new(e.kind(), format!("unpack {}: {reason}", self.format))
        })
    }
}

/// The concatenated frames of a zstd file; the decoder reads only one.
struct Frames {
    source: BufReader<File>,
    decoder: FrameDecoder,
    /// Whether the decoder is within a frame.
    within: bool,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    let decoded =
                        self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                    decoded.map_err(|e| wrong(&mut self.source, &e.to_string()))?;
                }
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buffer);
                }
                if self
                    .decoder
                    .get_checksum_from_data()
                    .is_some_and(|said| Some(said) != self.decoder.get_calculated_checksum())
                {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the checksum does not match the data",
                    ));
                }
                self.within = false;
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => self.within = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(wrong(&mut self.source, &e.to_string())),
            }
        }
    }
}

/// A decoder error; at the end of the source it means that the stream is truncated.
fn wrong(source: &mut BufReader<File>, reason: &str) -> io::Error {
    match source.fill_buf() {
        Ok([]) => io::ErrorKind::UnexpectedEof.into(),
        Ok(_) => io::Error::new(io::ErrorKind::InvalidData, reason.to_owned()),
        Err(e) => e,
    }
}
