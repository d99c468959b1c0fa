//! One command at a time, as redis-cli sends it: a client of our own, so that the library that the
//! sidecar uses is not tested against itself.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// A list.
    List(Vec<Reply>),
    /// A refusal.
    Error(String),
}

impl Reply {
    /// The fields of a hash: a list that alternates between names and values.
    pub fn field(&self, name: &str) -> Option<&str> {
        let Reply::List(items) = self else {
            return None;
        };
        items.chunks(2).find_map(|pair| match pair {
            [Reply::Text(field), Reply::Text(value)] if field == name => Some(value.as_str()),
            _ => None,
        })
    }
}

/// Connects, logs in where there is a password, and sends one command.
pub async fn ask(to: SocketAddr, password: Option<&str>, command: &[&str]) -> Result<Reply> {
    ask_all(to, password, &[command]).await
}

/// The same with several commands, sent at once; the answer to the last.
pub async fn ask_all(
    to: SocketAddr,
    password: Option<&str>,
    commands: &[&[&str]],
) -> Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(to).await?);
    if let Some(password) = password {
        send(&mut stream, &["AUTH", password]).await?;
        if let Reply::Error(error) = receive(&mut stream).await? {
            bail!("AUTH: {error}");
        }
    }
    for command in commands {
        send(&mut stream, command).await?;
    }
    let mut reply = Reply::Nil;
    for _ in commands {
        reply = receive(&mut stream).await?;
    }
    Ok(reply)
}

async fn send(stream: &mut BufReader<TcpStream>, command: &[&str]) -> Result<()> {
    let mut text = format!("*{}\r\n", command.len());
    for word in command {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    Ok(stream.get_mut().write_all(text.as_bytes()).await?)
}

async fn receive(stream: &mut BufReader<TcpStream>) -> Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let line = line.trim_end();
    let (kind, rest) = line
        .split_at_checked(1)
        .context("the connection was closed")?;
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(rest.parse()?),
        "$" | "*" if rest == "-1" => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; rest.parse::<usize>()? + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(bytes.len() - 2);
            Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        "*" => {
            let mut items = Vec::new();
            for _ in 0..rest.parse::<usize>()? {
                items.push(Box::pin(receive(stream)).await?);
            }
            Reply::List(items)
        }
        _ => bail!("an answer that is none: {line}"),
    })
}
