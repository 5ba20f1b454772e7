//! Whether models can be pulled from elsewhere. Nobody is asked: what the system and the settings say is read.

use super::Check;
use super::patient::Patient;

const NAME: &str = "network";

/// Variables that name a proxy; most programs take them in either case.
const PROXIES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

pub(super) fn check(patient: &Patient) -> Check {
    if patient.settings.offline {
        return Check::note(
            NAME,
            "`offline` is on: nothing leaves, and nothing can be pulled",
        )
        .mend("Set `offline = false`, or unset TROIKA_OFFLINE, to pull models.");
    }
    if let Some(name) = PROXIES
        .into_iter()
        .find(|name| (patient.env)(name).is_some())
    {
        return Check::note(NAME, format!("{name} names a proxy, and Troika goes by none")).mend(
            "Where only a proxy leads out, download models with another program, and put the .gguf files into the models' directory.",
        );
    }
    match has_route(patient) {
        Some(false) => Check::note(
            NAME,
            "this machine has no way to the internet: models cannot be pulled",
        )
        .mend("Connect it, or put .gguf files into the models' directory by other means."),
        Some(true) | None => Check::ok(
            NAME,
            "nothing is in the way of pulls that can be seen from here",
        ),
    }
}

/// Whether packets for everywhere have a way; `None` where Linux's tables are not.
fn has_route(patient: &Patient) -> Option<bool> {
    let v4 = patient.text("/proc/net/route")?;
    // Interface, destination, gateway, flags; the destination of what leads everywhere is zero.
    let everywhere = |row: &str| row.split_whitespace().nth(1) == Some("00000000");
    if v4.lines().skip(1).any(everywhere) {
        return Some(true);
    }
    // Destination, length of its prefix, and so on, and the interface last; one leads nowhere, and has the loopback's name.
    let v6 = patient.text("/proc/net/ipv6_route").unwrap_or_default();
    let everywhere = |row: &str| {
        let columns: Vec<_> = row.split_whitespace().collect();
        columns
            .first()
            .is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
            && columns.get(1) == Some(&"00")
            && columns.last() != Some(&"lo")
    };
    Some(v6.lines().any(everywhere))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;

    const HEADING: &str = "Iface\tDestination\tGateway\tFlags\n";

    #[test]
    fn what_is_in_the_way_of_pulls_is_told() {
        let mut bed = Bed::new();
        assert_eq!(check(&bed.patient).level, Level::Ok);
        bed.write("proc/net/route", HEADING);
        let alone = check(&bed.patient);
        assert_eq!(alone.level, Level::Note);
        assert!(alone.what.contains("no way"), "{alone:?}");
        bed.write(
            "proc/net/route",
            &format!("{HEADING}eth0\t00000000\t0100A8C0\t0003\n"),
        );
        assert_eq!(check(&bed.patient).level, Level::Ok);
        bed.patient.env = |name| (name == "https_proxy").then(|| "http://proxy:3128".to_owned());
        assert!(check(&bed.patient).what.contains("https_proxy"));
        bed.patient.settings.offline = true;
        assert!(check(&bed.patient).what.contains("offline"));
    }

    #[test]
    fn a_way_of_the_newer_kind_is_one() {
        let bed = Bed::new();
        bed.write("proc/net/route", HEADING);
        let zero = "0".repeat(32);
        let row = |interface: &str| {
            format!("{zero} 00 {zero} 00 {zero} 00000400 1 0 00000003 {interface}\n")
        };
        bed.write("proc/net/ipv6_route", &row("lo"));
        assert_eq!(has_route(&bed.patient), Some(false));
        bed.write("proc/net/ipv6_route", &row("wlan0"));
        assert_eq!(has_route(&bed.patient), Some(true));
    }
}
