//! Messages and services from the contract, compiled in Rust alone: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let contract = ["market_data_service", "orders_service"].map(|name| format!("ibkr_gateway/v1/{name}.proto"));
    let files = protox::compile(contract, ["../../proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}
