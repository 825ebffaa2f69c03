//! Holds a secret for as long as the program runs, and says when it is another: never what it is.
//!
//! `cargo run --package bursar-sdk --example hold -- vault/payments/db#password [/run/bursar/agent.sock]`

use std::error::Error;

use bursar_sdk::{Address, Client, ReadOptions, Reference};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it is what the example is for")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let reference = arguments.next().ok_or("name a secret, such as vault/payments/db#password")?;
    let socket = arguments.next().unwrap_or_else(|| "/run/bursar/agent.sock".to_owned());

    let client = Client::connect(&Address::unix(&socket), None).await?;
    let mut held = client.hold(Reference::parse(&reference)?, ReadOptions::default()).await?;
    loop {
        match held.current() {
            Some(value) => println!("{reference}: {} bytes", value.len()),
            None => println!("{reference}: its lease has ended, and there is no other"),
        }
        held.changed().await;
    }
}
