//! A server of this test's own: what it sends, and what it must not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;

use super::*;

/// An ELF file with this build-id and some bytes behind it.
pub(super) fn elf_with_id(id: &[u8], padding: usize) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
    bytes[64..68].copy_from_slice(&4u32.to_le_bytes());
    bytes[72..80].copy_from_slice(&120u64.to_le_bytes());
    bytes[96..104].copy_from_slice(&(16 + id.len() as u64).to_le_bytes());
    for number in [4, id.len() as u32, 3] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"GNU\0");
    bytes.extend(id);
    bytes.resize(bytes.len() + padding, 7);
    bytes
}

/// Answers requests until the listener's process ends; returns its URL and the requests' lines.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (out, requests) = sync_channel(100);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let line = head.lines().next().unwrap_or_default().to_owned();
            // A client that has seen enough hangs up.
            let _ = connection.write_all(&answer(&line));
            let _ = out.send(line);
        }
    });
    (url, requests)
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn wait_for(debuginfod: &Debuginfod, fetch: Fetch) {
    for _ in 0..6000 {
        if debuginfod.counts()[fetch as usize].1 > 0 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not seen: {fetch:?}, but {:?}", debuginfod.counts());
}

#[test]
fn a_file_is_there_for_the_next_incident() {
    let folder = tempfile::tempdir().unwrap();
    let id = "ab".repeat(20);
    let (url, requests) = serve(|_| ok(&elf_with_id(&[0xab; 20], 3000)));
    let debuginfod = Debuginfod::start(&url, &folder.path().join("cache"), 1 << 20).unwrap();
    assert!(debuginfod.debug_file(&id).is_none());
    wait_for(&debuginfod, Fetch::Stored);
    let mut byte = [0];
    let file = debuginfod.debug_file(&id).unwrap();
    file.read_exact_at(&mut byte, 2000).unwrap();
    assert_eq!(byte, [7]);
    assert_eq!(requests.recv().unwrap(), format!("GET /buildid/{id}/debuginfo HTTP/1.1"));
    // A recorder that starts again has it, too, and asks nobody.
    let again = Debuginfod::start("http://127.0.0.1:1", &folder.path().join("cache"), 1 << 20);
    assert!(again.unwrap().debug_file(&id).is_some());
}

#[test]
fn what_the_server_does_not_have_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (url, requests) = serve(|_| missing.to_vec());
    let debuginfod = Debuginfod::start(&url, folder.path(), 1 << 20).unwrap();
    let id = "cd".repeat(20);
    assert!(debuginfod.debug_file(&id).is_none());
    wait_for(&debuginfod, Fetch::Absent);
    for _ in 0..3 {
        assert!(debuginfod.debug_file(&id).is_none());
    }
    let other = "ce".repeat(20);
    assert!(debuginfod.debug_file(&other).is_none());
    let lines: Vec<String> = requests.iter().take(2).collect();
    assert!(lines[0].contains(&id) && lines[1].contains(&other), "{lines:?}");
}

#[test]
fn a_server_that_lies_or_is_gone_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let id = "ef".repeat(20);
    let (url, _) = serve(|_| ok(&elf_with_id(&[1; 20], 10)));
    let debuginfod = Debuginfod::start(&url, folder.path(), 1 << 20).unwrap();
    assert!(debuginfod.debug_file(&id).is_none());
    wait_for(&debuginfod, Fetch::Refused);
    let (url, _) = serve(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nshort".to_vec());
    for url in [url, "http://127.0.0.1:1/".to_owned()] {
        let debuginfod = Debuginfod::start(&url, folder.path(), 1 << 20).unwrap();
        assert!(debuginfod.debug_file(&id).is_none());
        wait_for(&debuginfod, Fetch::Failed);
    }
    for no_id in ["", "../../etc/passwd", "EFEF"] {
        assert!(debuginfod.debug_file(no_id).is_none());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
