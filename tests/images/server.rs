//! A registry on loopback that serves what it is given, right or wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::image::Oci;

/// Content-Type, so many bytes of Content-Length as are promised, and the bytes.
type Answer = (String, u64, Arc<Vec<u8>>);

pub(crate) struct Server {
    port: u16,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

impl Server {
    /// Its thread ends with the program.
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let shared = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(answer(stream, &shared)));
            }
        });
        Server { port, answers }
    }

    pub(crate) fn put(&self, path: &str, media_type: &str, promised: u64, bytes: Vec<u8>) {
        let answer = (media_type.to_owned(), promised, Arc::new(bytes));
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Serves an image, and says by which name it can be pulled.
    pub(crate) fn serve(&self, name: &str, oci: &Oci) -> String {
        let top = oci.top["digest"].as_str().unwrap();
        let of = |digest: &str| oci.blobs.get(digest).cloned().unwrap_or_default();
        for (digest, bytes) in &oci.blobs {
            let (length, bytes) = (bytes.len() as u64, bytes.clone());
            // By digest manifests are asked for where manifests are.
            let path = format!("/v2/corpus/{name}/manifests/{digest}");
            self.put(&path, "", length, bytes.clone());
            let path = format!("/v2/corpus/{name}/blobs/{digest}");
            self.put(&path, "application/octet-stream", length, bytes);
        }
        let media_type = oci.top["mediaType"].as_str().unwrap();
        let bytes = of(top);
        let path = format!("/v2/corpus/{name}/manifests/1");
        self.put(&path, media_type, bytes.len() as u64, bytes);
        format!("127.0.0.1:{}/corpus/{name}:1", self.port)
    }
}

fn answer(stream: TcpStream, answers: &Mutex<HashMap<String, Answer>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let found = answers.lock().unwrap().get(path).cloned();
    let mut stream = stream;
    match found {
        None => stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?,
        Some((media_type, length, bytes)) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(&bytes)?;
        }
    }
    // Until the other side has read it all.
    stream.shutdown(std::net::Shutdown::Write)?;
    let _ = stream.read(&mut [0; 16]);
    Ok(())
}
