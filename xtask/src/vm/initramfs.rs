//! The archive that a kernel unpacks into its first root: cpio in the form "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel's sources).
//!
//! Must not: know what the files are for.

/// A file's type and rights, as in `st_mode`.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive that grows.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; those above it must be there already.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    /// Adds a file that may be executed.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // In 13 fields of 8 hexadecimal digits: inode, mode, owner, group, links, time, size, four
        // device numbers, length of the name with its NUL, checksum (unused in this form).
        let fields = [self.entries as usize, mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0]
            .into_iter()
            .chain([path.len() + 1, 0]);
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Name and content each end at a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back as the kernel does.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut files = Vec::new();
        let whole = bytes.len();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |number: usize| {
                let text = std::str::from_utf8(&bytes[6 + number * 8..14 + number * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
            let path = String::from_utf8(bytes[110..110 + name - 1].to_vec()).unwrap();
            assert_eq!(bytes[110 + name - 1], 0, "the name does not end with NUL");
            let at = (110 + name).next_multiple_of(4);
            let content = bytes[at..at + size].to_vec();
            bytes = &bytes[(at + size).next_multiple_of(4)..];
            assert_eq!((whole - bytes.len()) % 4, 0);
            if path == TRAILER {
                assert!(bytes.is_empty());
                return files;
            }
            files.push((path, mode, content));
        }
    }

    #[test]
    fn an_archive_holds_what_was_put_in() {
        let mut archive = Archive::default();
        archive.folder("modules");
        archive.file("modules/00-fuse.ko", b"12345");
        archive.file("init", b"#!/bin/sh\n");
        let files = read(&archive.finish());
        assert_eq!(
            files,
            [
                ("modules".to_owned(), 0o040_755, Vec::new()),
                ("modules/00-fuse.ko".to_owned(), 0o100_755, b"12345".to_vec()),
                ("init".to_owned(), 0o100_755, b"#!/bin/sh\n".to_vec()),
            ]
        );
    }
}
