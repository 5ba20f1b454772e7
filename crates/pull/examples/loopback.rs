//! One side of `bench/pull`: `host BYTES` gives a made-up model over loopback, `pull URL DIRECTORY` fetches it and says how
//! long that took and how much memory, `read URL` throws it away, `write BYTES DIRECTORY` has the disk alone take as much.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for measuring, which ends where something is wrong"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use troika_base::DType;
use troika_gguf::{Metadata, Writer};
use troika_library::Library;
use troika_pull::{Patience, Progress, Puller, Sites, Wish};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args {
        ["host", bytes] => host(bytes.parse().unwrap()),
        ["pull", url, directory] => pull(url, Path::new(directory)),
        ["read", url] => read(url),
        ["write", bytes, directory] => write(bytes.parse().unwrap(), Path::new(directory)),
        _ => panic!("host BYTES | pull URL DIRECTORY | read URL | write BYTES DIRECTORY"),
    }
}

/// Gives ranges of a file from memory, by plain writes: the host has to be faster than what it measures.
fn host(bytes: usize) {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama");
    let rows = bytes / 16;
    let weights: Vec<u8> = (0..rows * 16).map(|at| (at * 31) as u8).collect();
    let mut writer = Writer::new(metadata);
    writer.tensor_bytes("output.weight", DType::F32, &[4, rows as u64], &weights);
    let mut file = Vec::with_capacity(bytes + 4096);
    writer.write_to(&mut file).unwrap();
    drop(weights);
    let file: Arc<[u8]> = file.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("http://{}/big.gguf", listener.local_addr().unwrap());
    for client in listener.incoming() {
        let file = Arc::clone(&file);
        std::thread::spawn(move || answer(client.unwrap(), &file));
    }
}

fn answer(mut client: TcpStream, file: &[u8]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while client.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let range = text
            .lines()
            .find_map(|line| line.strip_prefix("range: bytes="));
        let (start, end) = range.map_or((0, file.len()), |range| {
            let (start, end) = range.split_once('-').unwrap();
            (start.parse().unwrap(), end.parse::<usize>().unwrap() + 1)
        });
        let end = end.min(file.len());
        let status = if range.is_some() {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let told = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{}\r\n\r\n",
            end - start,
            end - 1,
            file.len()
        );
        let sent = client.write_all(told.as_bytes());
        if sent
            .and_then(|()| client.write_all(&file[start..end]))
            .is_err()
        {
            return;
        }
        head.clear();
    }
}

fn pull(url: &str, directory: &Path) {
    let library = Arc::new(Library::open(directory.to_owned(), &[]));
    let puller = Puller::new(library, Sites::default(), Patience::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let wish = Wish::of(url.parse().unwrap());
        let look = puller.look(&wish).await.unwrap();
        let (told, _) = watch::channel(Progress::default());
        let began = Instant::now();
        puller.pull(&look, &told).await.unwrap();
        say("pull", look.bytes, began);
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or("VmHWM: not told here"));
}

fn read(url: &str) {
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let began = Instant::now();
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET /big.gguf HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            read => bytes += read as u64,
        }
    }
    say("loopback", bytes, began);
}

fn write(bytes: u64, directory: &Path) {
    let buffer: Vec<u8> = (0..1 << 20).map(|at: usize| (at * 31) as u8).collect();
    let path = directory.join("written");
    let began = Instant::now();
    let mut file = std::fs::File::create(&path).unwrap();
    for _ in 0..bytes.div_ceil(1 << 20) {
        file.write_all(&buffer).unwrap();
    }
    file.sync_data().unwrap();
    say("disk", bytes, began);
    std::fs::remove_file(path).unwrap();
}

fn say(what: &str, bytes: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let mb_per_s = bytes as f64 / 1e6 / seconds;
    println!("{what}: {bytes} bytes in {seconds:.2} s, {mb_per_s:.0} MB/s");
}
