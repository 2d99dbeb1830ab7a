//! Encrypted connections: who has a certificate of the fleet's authority is spoken to, and nobody else.

use crate::disturbed::{Disturbed, RETAIL};
use crate::process::{Fleet, Server, fail};
use crate::proxy::{Proxy, Weather};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use shoal_stats::RandomStream;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An authority, and who has a certificate of it.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("it signs itself");
        fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("the folder is writable");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The arguments of a process that has a certificate for this name.
    fn arguments(&self, name: &str, is_expired: bool) -> Vec<String> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if is_expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        let [of_certificate, of_key] =
            ["cert.pem", "key.pem"].map(|file| self.path(&format!("{name}-{is_expired}-{file}")));
        fs::write(&of_certificate, certificate.pem()).expect("the folder is writable");
        fs::write(&of_key, key.serialize_pem()).expect("the folder is writable");
        let arguments = ["--tls-cert", &of_certificate, "--tls-key", &of_key, "--tls-ca", &self.path("ca.pem")];
        arguments.map(str::to_owned).to_vec()
    }

    fn path(&self, file: &str) -> String {
        text(&self.folder.path().join(file)).to_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// A fleet whose processes all have a certificate for the loopback's address.
fn fleet(authority: &Authority, n_workers: usize) -> Fleet {
    Fleet::start_encrypted(&borrowed(&authority.arguments("127.0.0.1", false)), n_workers)
}

#[test]
fn only_those_with_a_certificate_of_the_authority_are_spoken_to() {
    let authority = Authority::new();
    let fleet = fleet(&authority, 2);
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");

    let list =
        |url: &str, tls: &[String]| fail(&[&["jobs", "list", "--coordinator", url][..], &borrowed(tls)].concat());
    let line = list(&fleet.url, &[]);
    assert!(line.contains("needs certificates"), "{line}");
    let plain = fleet.url.replace("https:", "http:");
    let line = list(&plain, &[]);
    assert!(!line.contains("jobs/1"), "plain text is not answered: {line}");
    let line = list(&plain, &authority.arguments("127.0.0.1", false));
    assert!(line.contains("is not encrypted"), "{line}");
    // The client does not believe this server, and the server would not believe this client.
    let line = list(&fleet.url, &Authority::new().arguments("127.0.0.1", false));
    assert!(line.contains("certificate may have been refused"), "{line}");
    let line = list(&fleet.url, &authority.arguments("127.0.0.1", true));
    assert!(line.contains("certificate may have been refused"), "it has expired: {line}");

    // One that believes the server, and whom the server does not believe.
    let other = Authority::new();
    let mut stranger = other.arguments("127.0.0.1", false);
    stranger[5] = authority.path("ca.pem");
    let line = list(&fleet.url, &stranger);
    assert!(line.contains("certificate may have been refused"), "{line}");

    let line = list(
        &fleet.url,
        &["--tls-cert", "--tls-key", "--tls-ca"].map(|option| [option, "Cargo.toml"].map(str::to_owned)).concat(),
    );
    assert!(line.contains("--tls-cert, --tls-key, --tls-ca: "), "{line}");
    assert!(fleet.succeed(&["jobs", "list"]).contains("jobs/1"));
}

/// The certificate of a worker is for another machine.
#[test]
fn a_worker_under_another_name_does_not_join() {
    let authority = Authority::new();
    let fleet = fleet(&authority, 1);
    let elsewhere = authority.arguments("elsewhere.example", false);
    let log = fleet.folder.path().join("elsewhere.log");
    let arguments = [&["worker", "--coordinator", &fleet.url][..], &borrowed(&elsewhere)].concat();
    let worker = Server::start(&arguments, log);
    worker.logs("cannot be reached");
    let workers = fleet.succeed(&["workers"]);
    assert_eq!(workers.lines().count(), 2, "a header and the one that has joined: {workers}");
}

/// Whoever connects and says nothing, or something else, does not keep others from being answered, and is let go.
#[test]
fn a_handshake_that_never_ends_is_broken_off() {
    let authority = Authority::new();
    let fleet = fleet(&authority, 1);
    let address = fleet.url.trim_start_matches("https://").to_owned();
    let mut silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(&address).expect("a connection is taken")).collect();
    silent[0].write_all(&[0x16, 0x03, 0x01]).expect("three bytes of a handshake are taken");
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
    let began = Instant::now();
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let ended = stream.read(&mut [0; 64]);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "they were let go after {:?}", began.elapsed());
}

/// What flips on its way is noticed: the connection breaks, and is made anew or done without.
#[test]
fn bits_that_flip_under_way_do_not_show() {
    let authority = Authority::new();
    let (mut fleet, proxy) = (fleet(&authority, 1), Proxy::start());
    fleet.add_worker_behind(&proxy);
    let mut disturbed = Disturbed::start(&fleet);
    let stream = RandomStream { seed: 2, stream: 0 };
    for draw in 0u64.. {
        if disturbed.has_ended() {
            break;
        }
        proxy.set(Weather::Flips((stream.uniform(draw) * 20_000.0) as u64));
        std::thread::sleep(Duration::from_millis(200));
        proxy.set(Weather::Fair);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(proxy.n_hit() > 10, "{} hits", proxy.n_hit());
    disturbed.ends_as_undisturbed(&fleet);
}
