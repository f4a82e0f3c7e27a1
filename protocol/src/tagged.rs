//! Macros for enums whose wire tags are written down.

/// Defines an enum of newtype variants, each with its permanent numeric tag: `3 => CancelJob(CancelJob)`.
///
/// The bincode form is the tag as a varint `u16`, then the body; an unknown tag is a decode error that names
/// the enum and the tag. The JSON form is the body's object with a `"type"` key. A tag is never reused for
/// another variant.
#[macro_export]
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $tag:literal => $variant:ident($body:ty) ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum $name {
            $( $(#[$vmeta])* $variant($body) ),+
        }

        impl $name {
            /// The permanent numeric tag of this variant.
            pub fn tag(&self) -> u16 {
                match self { $( Self::$variant(_) => $tag ),+ }
            }

            /// The name of this variant, as in the source.
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant(_) => stringify!($variant) ),+ }
            }

            /// Every tag in use, with its name: golden files are checked against it.
            pub const TAGS: &'static [(u16, &'static str)] = &[ $( ($tag, stringify!($variant)) ),+ ];
        }

        impl bincode::Encode for $name {
            fn encode<E: bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), bincode::error::EncodeError> {
                let tag: u16 = self.tag();
                bincode::Encode::encode(&tag, encoder)?;
                match self { $( Self::$variant(body) => bincode::Encode::encode(body, encoder) ),+ }
            }
        }

        bincode::impl_borrow_decode!($name);

        impl<C> bincode::Decode<C> for $name {
            fn decode<D: bincode::de::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                let tag: u16 = bincode::Decode::decode(decoder)?;
                match tag {
                    $( $tag => Ok(Self::$variant(bincode::Decode::decode(decoder)?)), )+
                    _ => Err(bincode::error::DecodeError::UnexpectedVariant {
                        type_name: stringify!($name),
                        allowed: &bincode::error::AllowedEnumVariants::Allowed(&[ $( $tag ),+ ]),
                        found: tag as u32,
                    }),
                }
            }
        }
    };
}

/// Defines an enum without bodies: each variant has a permanent numeric tag and its JSON word.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $tag:literal => $variant:ident = $word:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[$vmeta])* #[serde(rename = $word)] $variant ),+
        }

        impl $name {
            /// The word in JSON and on the command line.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word ),+ }
            }

            /// All words, in the order of the source.
            pub const WORDS: &'static [&'static str] = &[ $( $word ),+ ];
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.word())
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::ids::ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err($crate::ids::ParseIdError { expected: stringify!($name) }),
                }
            }
        }

        impl bincode::Encode for $name {
            fn encode<E: bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), bincode::error::EncodeError> {
                let tag: u8 = match self { $( Self::$variant => $tag ),+ };
                bincode::Encode::encode(&tag, encoder)
            }
        }

        bincode::impl_borrow_decode!($name);

        impl<C> bincode::Decode<C> for $name {
            fn decode<D: bincode::de::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                let tag: u8 = bincode::Decode::decode(decoder)?;
                match tag {
                    $( $tag => Ok(Self::$variant), )+
                    _ => Err(bincode::error::DecodeError::UnexpectedVariant {
                        type_name: stringify!($name),
                        allowed: &bincode::error::AllowedEnumVariants::Allowed(&[ $( $tag ),+ ]),
                        found: tag as u32,
                    }),
                }
            }
        }
    };
}
