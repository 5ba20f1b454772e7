//! The server at the configured address: where it is, whether it answers, and who else has its port.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use troika_server::Settings;

/// What a Troika answers to programs that ask for `/`.
const GREETING: &str = "Troika is running";
/// No answer that matters is longer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// What Linux calls a socket that listens.
const LISTENS: &str = "0A";

/// Who is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Nobody.
    Nobody,
    /// A Troika.
    Troika,
    /// Something that answers otherwise, or not in time.
    Other,
}

/// A process, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its name.
    pub(crate) name: String,
    /// Its number.
    pub(crate) pid: u32,
}

/// Where a server with these settings is called from this machine.
pub(crate) fn address(settings: &Settings) -> SocketAddr {
    // An address that stands for all of them is none to call.
    let host = match settings.host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, settings.port)
}

/// The page of a server with these settings.
pub(crate) fn page(settings: &Settings) -> String {
    format!("http://{}/", address(settings))
}

/// Asks who is at an address. Each of connecting and answering has `patience`.
pub(crate) fn who(address: SocketAddr, patience: Duration) -> Listener {
    let Ok(stream) = TcpStream::connect_timeout(&address, patience) else {
        return Listener::Nobody;
    };
    match ask(stream, address, patience) {
        Ok(answer) if answer.contains(GREETING) => Listener::Troika,
        _ => Listener::Other,
    }
}

/// What is answered to a program that asks for `/`, as much of it as came in time.
fn ask(mut stream: TcpStream, address: SocketAddr, patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // In one piece: who has answered and closed before the end came would be taken for one that breaks off.
    let question =
        format!("GET / HTTP/1.1\r\nhost: {address}\r\naccept: */*\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The process that listens on a port, where the files of Linux's `/proc` tell: those of other users do not.
pub(crate) fn holder(root: &Path, port: u16) -> Option<Holder> {
    let sockets = ["proc/net/tcp", "proc/net/tcp6"].into_iter();
    let inodes: Vec<String> = sockets
        .filter_map(|file| fs::read_to_string(root.join(file)).ok())
        .flat_map(|table| listening(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir(root.join("proc")).ok()?;
    let mut pids: Vec<u32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let pid = pids
        .into_iter()
        .find(|pid| has_one(&root.join(format!("proc/{pid}/fd")), &inodes))?;
    let name = fs::read_to_string(root.join(format!("proc/{pid}/comm"))).unwrap_or_default();
    Some(Holder {
        name: name.trim().to_owned(),
        pid,
    })
}

/// The numbers of the sockets in a table of Linux's that listen on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let rows = table.lines().skip(1).filter_map(|row| {
        // Number, local address, remote address, state, five more, the socket's number.
        let columns: Vec<&str> = row.split_whitespace().collect();
        let is_it = columns.get(1)?.ends_with(&port) && *columns.get(3)? == LISTENS;
        is_it.then(|| (*columns.get(9).unwrap_or(&"")).to_owned())
    });
    rows.collect()
}

fn has_one(open_files: &Path, sockets: &[String]) -> bool {
    let files = fs::read_dir(open_files).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == &**socket))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Enough for a machine with a lot to do.
    const LONG: Duration = Duration::from_secs(20);

    /// Listens, and answers so to whoever comes.
    pub(crate) fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("has an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("somebody comes");
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    #[test]
    fn a_troika_is_told_from_others() {
        let troika = answering("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nTroika is running");
        assert_eq!(who(troika, LONG), Listener::Troika);
        let other = answering("HTTP/1.1 200 OK\r\n\r\nOllama is running");
        assert_eq!(who(other, LONG), Listener::Other);
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("has an address");
        drop(free);
        assert_eq!(who(address, LONG), Listener::Nobody);
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = silent.local_addr().expect("has an address");
        assert_eq!(who(address, Duration::from_millis(20)), Listener::Other);
    }

    #[test]
    fn addresses_are_those_to_call() {
        let at = |host: &str, port| {
            let host = host.parse().expect("an address");
            page(&Settings {
                host,
                port,
                ..Settings::default()
            })
        };
        assert_eq!(at("127.0.0.1", 11435), "http://127.0.0.1:11435/");
        assert_eq!(at("0.0.0.0", 80), "http://127.0.0.1:80/");
        assert_eq!(at("::", 80), "http://[::1]:80/");
    }

    #[cfg(unix)]
    #[test]
    fn the_process_that_has_a_port_is_found() {
        let root = tempfile::tempdir().expect("a directory");
        let proc = root.path().join("proc");
        let fds = proc.join("42/fd");
        fs::create_dir_all(&fds).expect("is made");
        fs::create_dir_all(proc.join("net")).expect("is made");
        fs::create_dir_all(proc.join("7/fd")).expect("is made");
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:2CAB 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0\n\
             \x20  1: 0100007F:2CAB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0\n";
        fs::write(proc.join("net/tcp"), table).expect("is written");
        fs::write(proc.join("42/comm"), "nginx\n").expect("is written");
        std::os::unix::fs::symlink("socket:[99]", fds.join("3")).expect("is made");
        let found = holder(root.path(), 0x2CAB);
        assert_eq!(
            found,
            Some(Holder {
                name: "nginx".to_owned(),
                pid: 42
            })
        );
        assert_eq!(holder(root.path(), 80), None);
    }
}
