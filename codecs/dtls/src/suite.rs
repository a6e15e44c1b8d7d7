//! Cipher suites: those with AES-128 and SHA-256 that CoAP, LwM2M and MQTT-SN name.

/// How both come to a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyExchange {
    /// A shared key alone. RFC 4279 §2
    Psk,
    /// A shared key, and Diffie-Hellman for forward secrecy. RFC 5489
    EcdhePsk,
    /// Diffie-Hellman, signed by the server's ECDSA key. RFC 8422
    EcdheEcdsa,
}

impl KeyExchange {
    /// Whether there is a Diffie-Hellman exchange in it.
    pub fn has_ecdhe(self) -> bool {
        self != Self::Psk
    }

    /// Whether there is a shared key in it.
    pub fn has_psk(self) -> bool {
        self != Self::EcdheEcdsa
    }
}

/// How records are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bulk {
    /// AES-128 in CCM, with a tag of 16 bytes. RFC 6655
    Ccm,
    /// The same with a tag of 8 bytes.
    Ccm8,
    /// AES-128 in GCM. RFC 5288
    Gcm,
    /// AES-128 in CBC and HMAC-SHA-256, which authenticates what was encrypted. RFC 7366
    Cbc,
}

macro_rules! suites {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $exchange:ident, $bulk:ident, $text:literal;)*) => {
        /// A cipher suite.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum CipherSuite {
            $($(#[$doc])* $name = $number,)*
        }

        impl CipherSuite {
            /// All of them, best first.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in the registry.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// How both come to a secret.
            pub fn key_exchange(self) -> KeyExchange {
                match self {
                    $(Self::$name => KeyExchange::$exchange,)*
                }
            }

            /// How records are protected.
            pub fn bulk(self) -> Bulk {
                match self {
                    $(Self::$name => Bulk::$bulk,)*
                }
            }
        }
    };
}

suites! {
    /// RFC 7251
    EcdheEcdsaCcm8 = 0xC0AE, EcdheEcdsa, Ccm8, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8";
    /// RFC 7251
    EcdheEcdsaCcm = 0xC0AC, EcdheEcdsa, Ccm, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM";
    /// RFC 5289
    EcdheEcdsaGcm = 0xC02B, EcdheEcdsa, Gcm, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    /// RFC 5289
    EcdheEcdsaCbc = 0xC023, EcdheEcdsa, Cbc, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256";
    /// RFC 8442
    EcdhePskCcm8 = 0xD003, EcdhePsk, Ccm8, "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256";
    /// RFC 8442
    EcdhePskCcm = 0xD005, EcdhePsk, Ccm, "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256";
    /// RFC 8442
    EcdhePskGcm = 0xD001, EcdhePsk, Gcm, "TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256";
    /// RFC 5489
    EcdhePskCbc = 0xC037, EcdhePsk, Cbc, "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256";
    /// RFC 6655
    PskCcm8 = 0xC0A8, Psk, Ccm8, "TLS_PSK_WITH_AES_128_CCM_8";
    /// RFC 6655
    PskCcm = 0xC0A4, Psk, Ccm, "TLS_PSK_WITH_AES_128_CCM";
    /// RFC 5487
    PskGcm = 0x00A8, Psk, Gcm, "TLS_PSK_WITH_AES_128_GCM_SHA256";
    /// RFC 5487
    PskCbc = 0x00AE, Psk, Cbc, "TLS_PSK_WITH_AES_128_CBC_SHA256";
}

impl CipherSuite {
    /// The suite of this number, if we know it.
    pub fn from_u16(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|suite| *suite as u16 == number)
    }

    /// The suite of this name, if we know it.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|suite| suite.name().eq_ignore_ascii_case(name))
    }
}

/// Says that the client knows of secure renegotiation. RFC 5746 §3.3
pub const RENEGOTIATION_SCSV: u16 = 0x00FF;
