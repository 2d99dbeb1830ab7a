//! A TCP proxy that does to connections what networks do.

use crate::process::free_address;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// What happens to bytes under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Weather {
    /// They arrive.
    Fair,
    /// They arrive late.
    Slow(Duration),
    /// A connection breaks after so many bytes from either side.
    Breaks(u64),
    /// A connection breaks when these bytes come.
    BreaksOver(&'static str),
    /// They are lost, and connections stay open.
    Silent,
    /// A bit flips, now and then after so many bytes of a connection.
    Flips(u64),
}

/// Passes connections on from its own address to another one. Its threads end with the test's process.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: String,
    /// Where it passes connections on to.
    pub(crate) target: String,
    shared: Arc<Shared>,
}

struct Shared {
    weather: Mutex<Weather>,
    /// How often bytes have met with anything but fair weather.
    n_hit: AtomicU64,
    n_connections: AtomicU64,
}

impl Proxy {
    /// Listens, for a server that is yet to come.
    pub(crate) fn start() -> Self {
        let (listener, target) = (TcpListener::bind("127.0.0.1:0").expect("a free port"), free_address());
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared {
            weather: Mutex::new(Weather::Fair),
            n_hit: AtomicU64::new(0),
            n_connections: AtomicU64::new(0),
        });
        let (connections_to, of_connections) = (target.clone(), shared.clone());
        spawn(move || {
            for client in listener.incoming().flatten() {
                // One that is not there is a connection that breaks.
                if let Ok(server) = TcpStream::connect(&connections_to) {
                    of_connections.n_connections.fetch_add(1, Ordering::Relaxed);
                    connect(client, server, &of_connections);
                }
            }
        });
        Self { address, target, shared }
    }

    pub(crate) fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// How often bytes have met with anything but fair weather.
    pub(crate) fn n_hit(&self) -> u64 {
        self.shared.n_hit.load(Ordering::Relaxed)
    }

    /// How many connections there have been.
    pub(crate) fn n_connections(&self) -> u64 {
        self.shared.n_connections.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn weather(&self) -> Weather {
        let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        if weather != Weather::Fair {
            self.n_hit.fetch_add(1, Ordering::Relaxed);
        }
        weather
    }
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    for (from, to) in [(&client, &server), (&server, &client)] {
        let [from, to] = [from, to].map(|stream| stream.try_clone().expect("there are descriptors enough"));
        let shared = shared.clone();
        spawn(move || pass_on(from, to, &shared));
    }
}

/// Passes bytes on until either side, or the weather, ends the connection.
fn pass_on(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let (mut buffer, mut n_passed) = (vec![0; 16 << 10], 0);
    while let Ok(n_read @ 1..) = from.read(&mut buffer) {
        n_passed += n_read as u64;
        match shared.weather() {
            Weather::Fair => {}
            Weather::Slow(delay) => sleep(delay),
            Weather::Breaks(after) if n_passed > after => break,
            Weather::Breaks(_) => {}
            Weather::BreaksOver(bytes) => {
                if buffer[..n_read].windows(bytes.len()).any(|window| window == bytes.as_bytes()) {
                    break;
                }
            }
            Weather::Silent => continue,
            Weather::Flips(after) => {
                if n_passed > after {
                    buffer[n_read / 2] ^= 1;
                }
            }
        }
        if to.write_all(&buffer[..n_read]).is_err() {
            break;
        }
    }
    // The other direction's thread notices; a side that has gone already needs no farewell.
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
