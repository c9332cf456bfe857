//! All addresses of a host: a server that listens at `localhost` listens at each that has this name, as ZEO's does.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use vellum_server::Address;
use vellum_terminal::{Failure, Run};

/// The addresses with each host's name looked up. Without a host, all addresses of the machine.
pub fn expand(addresses: &[Address]) -> Run<Vec<Address>> {
    let mut found = Vec::new();
    for address in addresses {
        match address {
            Address::Unix(_) => found.push(address.clone()),
            Address::Tcp(text) => found.extend(look_up(text)?),
        }
    }
    Ok(found)
}

fn look_up(text: &str) -> Run<Vec<Address>> {
    let failed = |error: io::Error| Failure::Message(format!("cannot listen at {text}: {error}"));
    if let Some(port) = text.strip_prefix(':') {
        // One socket for both kinds of addresses, where the machine has both.
        let any = if can_listen("[::]:0") { "[::]" } else { "0.0.0.0" };
        return Ok(vec![Address::Tcp(format!("{any}:{port}"))]);
    }
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in text.to_socket_addrs().map_err(failed)? {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    // A name may have an address of a kind that the machine has not.
    let usable = |address: &&SocketAddr| can_listen(&SocketAddr::new(address.ip(), 0).to_string());
    let usable: Vec<Address> = all.iter().filter(usable).map(|address| Address::Tcp(address.to_string())).collect();
    // If there is none, listening says why.
    Ok(if usable.is_empty() { vec![Address::Tcp(text.to_owned())] } else { usable })
}

fn can_listen(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_all_its_addresses() {
        let of = |text: &str| expand(&[Address::Tcp(text.to_owned())]).unwrap();
        assert_eq!(of("127.0.0.1:8100"), [Address::Tcp("127.0.0.1:8100".to_owned())]);
        assert!(of("localhost:8100").contains(&Address::Tcp("127.0.0.1:8100".to_owned())));
        assert!(
            [["[::]:8100"], ["0.0.0.0:8100"]]
                .map(|it| it.map(|it| Address::Tcp(it.to_owned())).to_vec())
                .contains(&of(":8100"))
        );
        assert!(expand(&[Address::Tcp("no.such.host.invalid:1".to_owned())]).is_err());
    }
}
