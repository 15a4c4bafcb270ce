//! Tells what the installed libavcodec has.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(thread_safe_callbacks)");
    // Said by the crate with the bindings.
    if std::env::var_os("DEP_FFMPEG_FF_API_THREAD_SAFE_CALLBACKS").is_some() {
        println!("cargo::rustc-cfg=thread_safe_callbacks");
    }
}
