//! The API of `native-tls` 0.2, as far as reqwest 0.11, hyper-tls 0.5 and tokio-native-tls 0.3 call it, without OpenSSL.
//!
//! `consulrs` brings reqwest 0.11, whose `default-tls` no feature of ours can switch off. Weft has one TLS stack, rustls,
//! and sends nothing through that client. So everything here refuses: what could only exist after a success holds an
//! [`Infallible`], and the compiler proves that no connection can be made. It holds no TLS and reads no certificate.

use std::convert::Infallible;
use std::fmt;
use std::io;

/// Every operation's outcome: it is refused.
#[derive(Debug)]
pub struct Error(());

/// What the operations return.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("native-tls is refused in this build: TLS goes through rustls only (crate native-tls of the workspace)")
    }
}

impl std::error::Error for Error {}

/// Why a handshake did not finish. Only `Failure` can be made.
pub enum HandshakeError<S> {
    /// It is refused.
    Failure(Error),
    /// Never made.
    WouldBlock(MidHandshakeTlsStream<S>),
}

impl<S> fmt::Debug for HandshakeError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeError")
    }
}

/// A handshake under way; there is none.
pub struct MidHandshakeTlsStream<S> {
    stream: S,
    never: Infallible,
}

impl<S> MidHandshakeTlsStream<S> {
    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream below.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn handshake(self) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        match self.never {}
    }
}

impl<S> fmt::Debug for MidHandshakeTlsStream<S> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.never {}
    }
}

/// An established connection; there is none.
pub struct TlsStream<S> {
    stream: S,
    never: Infallible,
}

impl<S> TlsStream<S> {
    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream below.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The peer's certificate.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn peer_certificate(&self) -> Result<Option<Certificate>> {
        match self.never {}
    }

    /// The protocol that ALPN chose.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn negotiated_alpn(&self) -> Result<Option<Vec<u8>>> {
        match self.never {}
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn shutdown(&mut self) -> io::Result<()> {
        match self.never {}
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.never {}
    }
}

impl<S> io::Read for TlsStream<S> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.never {}
    }
}

impl<S> io::Write for TlsStream<S> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.never {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.never {}
    }
}

/// A certificate; none can be read.
#[derive(Clone)]
pub struct Certificate(Infallible);

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// Always: refused.
    pub fn from_der(_: &[u8]) -> Result<Self> {
        Err(Error(()))
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// Always: refused.
    pub fn from_pem(_: &[u8]) -> Result<Self> {
        Err(Error(()))
    }

    /// Writes DER.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn to_der(&self) -> Result<Vec<u8>> {
        match self.0 {}
    }
}

/// A client's certificate and key; none can be read.
#[derive(Clone)]
pub struct Identity(Infallible);

impl Identity {
    /// Reads PKCS#12.
    ///
    /// # Errors
    /// Always: refused.
    pub fn from_pkcs12(_: &[u8], _: &str) -> Result<Self> {
        Err(Error(()))
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// Always: refused.
    pub fn from_pkcs8(_: &[u8], _: &[u8]) -> Result<Self> {
        Err(Error(()))
    }

    /// The type whose value a builder would take.
    fn never(&self) -> ! {
        match self.0 {}
    }
}

/// TLS versions, as the callers name them.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// SSL 3.0.
    Sslv3,
    /// TLS 1.0.
    Tlsv10,
    /// TLS 1.1.
    Tlsv11,
    /// TLS 1.2.
    Tlsv12,
}

/// Makes clients; none can be built.
#[derive(Clone)]
pub struct TlsConnector(Infallible);

impl TlsConnector {
    /// A client with default settings.
    ///
    /// # Errors
    /// Always: refused.
    pub fn new() -> Result<Self> {
        Err(Error(()))
    }

    /// Starts a client's settings.
    pub fn builder() -> TlsConnectorBuilder {
        TlsConnectorBuilder(())
    }

    /// Shakes hands as the client.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn connect<S>(&self, _: &str, _: S) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        match self.0 {}
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

/// A client's settings. They are taken, since [`TlsConnectorBuilder::build`] refuses whatever they are.
#[derive(Debug)]
pub struct TlsConnectorBuilder(());

impl TlsConnectorBuilder {
    /// Takes a client certificate; there is none to give.
    pub fn identity(&mut self, identity: Identity) -> &mut Self {
        identity.never()
    }

    /// Takes a root certificate; there is none to give.
    pub fn add_root_certificate(&mut self, certificate: Certificate) -> &mut Self {
        match certificate.0 {}
    }

    /// Taken.
    pub fn min_protocol_version(&mut self, _: Option<Protocol>) -> &mut Self {
        self
    }

    /// Taken.
    pub fn max_protocol_version(&mut self, _: Option<Protocol>) -> &mut Self {
        self
    }

    /// Taken.
    pub fn disable_built_in_roots(&mut self, _: bool) -> &mut Self {
        self
    }

    /// Taken.
    pub fn request_alpns(&mut self, _: &[&str]) -> &mut Self {
        self
    }

    /// Taken.
    pub fn danger_accept_invalid_certs(&mut self, _: bool) -> &mut Self {
        self
    }

    /// Taken.
    pub fn danger_accept_invalid_hostnames(&mut self, _: bool) -> &mut Self {
        self
    }

    /// Taken.
    pub fn use_sni(&mut self, _: bool) -> &mut Self {
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// Always: refused.
    pub fn build(&self) -> Result<TlsConnector> {
        Err(Error(()))
    }
}

/// Makes servers; none can be built.
#[derive(Clone)]
pub struct TlsAcceptor(Infallible);

impl TlsAcceptor {
    /// A server with this certificate.
    ///
    /// # Errors
    /// Always: refused.
    pub fn new(_: Identity) -> Result<Self> {
        Err(Error(()))
    }

    /// Shakes hands as the server.
    ///
    /// # Errors
    /// Never called: there is no value of this type.
    pub fn accept<S>(&self, _: S) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_is_refused_and_says_so() {
        let refusals = [
            TlsConnector::new().err(),
            TlsConnector::builder().danger_accept_invalid_certs(true).build().err(),
            Certificate::from_der(&[]).err(),
            Certificate::from_pem(&[]).err(),
            Identity::from_pkcs12(&[], "").err(),
            Identity::from_pkcs8(&[], &[]).err(),
        ];
        for refusal in refusals {
            let text = refusal.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains("rustls only"), "not refused: {text:?}");
        }
    }
}
