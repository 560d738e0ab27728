//! A connect to one endpoint, counted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use model::tcp::TcpSettings;

use crate::fault::Fault;
use crate::observe::Counter;
use crate::runtime::Runtime;

pub(super) struct Dial<R: Runtime> {
    pub runtime: R,
    pub address: SocketAddr,
    pub timeout: Duration,
    pub tcp: TcpSettings,
    pub connects: Counter,
    pub failures: Counter,
}

impl<R: Runtime> Dial<R> {
    pub async fn connect(&self) -> Result<R::Io, Fault> {
        match self.runtime.connect(self.address, self.timeout, self.tcp).await {
            Ok(io) => {
                self.connects.add(1);
                Ok(io)
            }
            Err(error) => {
                self.failures.add(1);
                match error.kind() {
                    io::ErrorKind::TimedOut => Err(Fault::ConnectTimeout),
                    _ => Err(Fault::ConnectFailed),
                }
            }
        }
    }
}
