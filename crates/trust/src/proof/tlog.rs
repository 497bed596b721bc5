//! The same proof in the form that a stranger's verifier reads. Source: C2SP tlog-proof, version 1.

use super::{Bundle, Entry};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The C2SP tlog-proof of one entry under the bundle's checkpoint. The entry it proves is [`Entry::bytes`], as it is.
pub fn tlog_proof(bundle: &Bundle, entry: &Entry) -> String {
    let mut out = format!("c2sp.org/tlog-proof@v1\nindex {}\n", entry.seq.saturating_sub(1));
    for hash in &entry.proof.0 {
        out.push_str(&STANDARD.encode(hash));
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&bundle.checkpoint);
    out
}
