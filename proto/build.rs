//! Compiles `bursar/v1/*.proto` with protox, so that nobody installs protoc.
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
    println!("cargo::rerun-if-changed={PROTO_FOLDER}");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true);
    compiler.open_files(proto_files()?)?;

    let out = out_folder()?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let secret = secret_messages(&compiler.descriptor_pool());
    fs::write(out.join("secret_messages.rs"), format!("{secret:?}"))?;

    compiler.include_source_info(true);
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug(secret.iter().map(|name| format!(".{name}")))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn proto_files() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = fs::read_dir(PROTO_FOLDER)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
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

const PROTO_FOLDER: &str = "bursar/v1";
