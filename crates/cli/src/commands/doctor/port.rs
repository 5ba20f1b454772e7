//! Whether the server can listen where it is to, or does.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::patient::Patient;
use super::{Check, PATIENCE};
use crate::serving::{self, Listener};

const NAME: &str = "port";

pub(super) fn check(patient: &Patient) -> Check {
    let settings = &patient.settings;
    let address = SocketAddr::new(settings.host, settings.port);
    // Nobody is let in meanwhile, and the port is free again at once.
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(NAME, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken(patient, address),
        Err(error) => cannot(address, &error),
    }
}

fn cannot(address: SocketAddr, error: &io::Error) -> Check {
    let mend = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "This machine has no such address: set `host` to one that it has, or to 0.0.0.0."
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 are not for everyone: set `port` to a higher one."
        }
        _ => "Set `host` and `port` to others.",
    };
    Check::fault(
        NAME,
        format!("the server cannot listen on {address}: {error}"),
    )
    .mend(mend)
}

fn taken(patient: &Patient, address: SocketAddr) -> Check {
    let settings = &patient.settings;
    if serving::who(serving::address(settings), PATIENCE) == Listener::Troika {
        return Check::ok(
            NAME,
            format!("a Troika answers at {}", serving::page(settings)),
        );
    }
    let holder = serving::holder(&patient.root, settings.port);
    let by = match &holder {
        Some(holder) => format!("{} (process {})", holder.name, holder.pid),
        None => "a program that is no Troika, or one that does not answer".to_owned(),
    };
    let other = settings.port.checked_add(1).unwrap_or(11435);
    Check::fault(NAME, format!("{address} is taken by {by}")).mend(format!(
        "Stop it, or take another port: `troika serve --port {other}`, or `port = {other}` in config.toml."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;
    use crate::serving::tests::answering;

    #[test]
    fn a_port_that_is_taken_is_a_fault_unless_by_a_troika() {
        let mut bed = Bed::new();
        assert_eq!(check(&bed.patient).level, Level::Ok);
        let other = answering("HTTP/1.1 200 OK\r\n\r\nhello");
        bed.patient.settings.port = other.port();
        // This process's own files tell who it is.
        bed.patient.root = "/".into();
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Fault, "{found:?}");
        if cfg!(target_os = "linux") {
            let process = format!("process {}", std::process::id());
            assert!(found.what.contains(&process), "{found:?}");
        }
        let troika = answering("HTTP/1.1 200 OK\r\n\r\nTroika is running");
        bed.patient.settings.port = troika.port();
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Ok, "{found:?}");
    }

    #[test]
    fn an_address_that_is_not_here_is_a_fault() {
        let mut bed = Bed::new();
        // Kept for documentation: no machine has it.
        bed.patient.settings.host = "192.0.2.1".parse().expect("an address");
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Fault, "{found:?}");
        assert!(found.mend.contains("host"), "{found:?}");
        let denied = cannot(
            ([127, 0, 0, 1], 80).into(),
            &io::ErrorKind::PermissionDenied.into(),
        );
        assert!(denied.mend.contains("1024"));
    }
}
