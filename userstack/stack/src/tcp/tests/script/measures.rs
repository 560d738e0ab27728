//! What a script asserts of a connection, or of the engine: `NAME VALUE` or `NAME LEAST..MOST`.

use std::time::Duration;

use super::Outcome;
use super::notation::{duration, number};
use super::runner::{Runner, expect_equal};
use crate::Defence;

/// How far a time may be from what a script says: scripts write milliseconds.
const PRECISION: Duration = Duration::from_micros(500);

impl Runner {
    pub fn measure(&mut self, name: &str, expected: &str) -> Outcome {
        match name {
            "state" => return self.expect_state(expected),
            "rto" => return expect_time(name, self.rto()?, expected),
            "srtt" => {
                let smoothed = self.connection()?.recovery.rtt.smoothed().unwrap_or_default();
                return expect_time(name, smoothed, expected);
            }
            _ => {}
        }
        let measured = match name {
            "cwnd" => u64::from(self.connection()?.recovery.window.congestion),
            "ssthresh" => u64::from(self.connection()?.recovery.window.threshold),
            "mss" => u64::from(self.connection()?.recovery.window.mss),
            "flight" => u64::from(self.connection()?.send.flight()),
            "retransmitted" => u64::from(self.connection()?.recovery.retransmitted_segments),
            "merged" => self.host.merged as u64,
            "memory" => self.host.tcp.lent_bytes() as u64,
            "connections" => self.host.tcp.connections() as u64,
            "time_waits" => self.host.tcp.time_waits.len() as u64,
            "half_open" => self.half_open()?,
            _ => {
                let defence = Defence::ALL.iter().find(|defence| defence.name() == name);
                self.host.tcp.defences().of(*defence.ok_or("no such command")?)
            }
        };
        let (least, most) = expected.split_once("..").unwrap_or((expected, expected));
        let within = (number(least)?..=number(most)?).contains(&measured);
        if within { Ok(()) } else { Err(format!("{name} is {measured}, the script says {expected}")) }
    }

    fn expect_state(&mut self, expected: &str) -> Outcome {
        let key = self.flow()?.key;
        expect_equal("state", self.host.tcp.info(key).map_or("gone", |info| info.state), expected)
    }

    fn rto(&self) -> Result<Duration, String> {
        Ok(Duration::from_nanos(self.connection()?.recovery.rtt.timeout_nanos()))
    }

    fn half_open(&self) -> Result<u64, String> {
        let listener = self.listener.and_then(|key| self.host.tcp.listeners.get(key));
        Ok(listener.ok_or("no listener")?.half_open as u64)
    }
}

fn expect_time(name: &str, measured: Duration, expected: &str) -> Outcome {
    let (least, most) = expected.split_once("..").unwrap_or((expected, expected));
    let within =
        duration(least)?.saturating_sub(PRECISION) <= measured && measured <= duration(most)? + PRECISION;
    if within { Ok(()) } else { Err(format!("{name} is {measured:?}, the script says {expected}")) }
}
