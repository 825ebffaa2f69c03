//! Compiles `bursar/v1/*.proto` with protox, so that nobody installs protoc, and beside them the interfaces of others
//! that Bursar serves: those are no part of the descriptors, which say what a broker serves.
//!
//! The mark `[debug_redact = true]` in a .proto file is the one place that says which fields are secret. prost ignores
//! it, so every message with such a field is built here without the derived `Debug`. `src/debug.rs` has one by hand for
//! each: where it is missing, the lint `missing_debug_implementations` says so. The list of these messages goes to the
//! tests, which look for a canary in each.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use protox::prost_reflect::{DescriptorPool, FieldDescriptor};

fn main() -> Result<(), Box<dyn Error>> {
    let mut secret = Vec::new();
    let ours = compile(OURS, &mut secret)?;
    let out = out_folder()?;
    fs::write(out.join("descriptors.bin"), ours)?;
    for folder in OTHERS {
        compile(folder, &mut secret)?;
    }
    fs::write(out.join("secret_messages.rs"), format!("{secret:?}"))?;
    Ok(())
}

/// Generates the code of the files in `folder`, adds their messages that carry a secret to `secret`, and answers their
/// descriptors.
fn compile(folder: &str, secret: &mut Vec<String>) -> Result<Vec<u8>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={folder}");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true);
    compiler.open_files(proto_files(folder)?)?;
    let descriptors = compiler.encode_file_descriptor_set();

    let marked = secret_messages(&compiler.descriptor_pool());
    compiler.include_source_info(true);
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug(marked.iter().map(|name| format!(".{name}")))
        .compile_fds(compiler.file_descriptor_set())?;
    secret.extend(marked);
    Ok(descriptors)
}

fn proto_files(folder: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();
    Ok(files)
}

fn secret_messages(pool: &DescriptorPool) -> Vec<String> {
    let messages = pool.all_messages().filter(|message| message.fields().any(|field| is_secret(&field)));
    messages.map(|message| message.full_name().to_owned()).collect()
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let mark = field.options().get_field_by_name("debug_redact").and_then(|mark| mark.as_bool());
    mark == Some(true)
}

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script by environment where to write")]
fn out_folder() -> Result<PathBuf, env::VarError> {
    env::var("OUT_DIR").map(|folder| Path::new(&folder).to_owned())
}

const OURS: &str = "bursar/v1";
/// The Secrets Store CSI driver's, and Envoy's secret discovery.
const OTHERS: [&str; 2] = ["v1alpha1", "envoy/service/secret/v3"];
