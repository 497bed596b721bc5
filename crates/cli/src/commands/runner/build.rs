//! `custody runner build`: the image of a runner from its recipe in the source tree, by the builder that made every other
//! image. Must never fetch an image, and never build what is not open source without its user's word.

use super::super::Ctx;
use super::{engine, image_present};
use crate::config::cache_folder;
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice};
use custody_engine::runners::read_document;
use custody_ports::containers::Containers;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// Where recipes are in the source tree.
const RECIPES: &str = "runner-images";
/// Written by the image builder: where the source tree is.
const SOURCE_NOTE: &str = "source";

/// What `runner build` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The recipes are in the source tree, one folder a runner below runner-images/. The tree is found by --source, by\n$CUSTODY_SOURCE, in the current folder or one above it, or where an image was last built from (./ops/up builds one).\nAgents that come as packages need npm, and once mmdebstrap and root: ops/setup installs both.\n\nExamples:\n  custody runner build custody-agent && custody runner verify custody-agent\n\nExit codes: 0 built and known to the engine, 3 no such recipe, 5 its licence was not accepted, 8 no container engine."
)]
pub(crate) struct BuildArgs {
    /// Its name
    name: String,
    /// Custody's source tree
    #[arg(long, value_name = "DIR", env = "CUSTODY_SOURCE")]
    source: Option<PathBuf>,
    /// I have read the licence of an agent that is not open source, and build its image for myself under it
    #[arg(long)]
    accept_licence: bool,
}

pub(super) async fn run(ctx: &Ctx, args: BuildArgs) -> CliResult {
    let target = ctx.target()?;
    let source = source(args.source.as_deref())?;
    let recipe = recipe(&source, &args.name)?;
    let text = |field: &str| recipe[field].as_str().unwrap_or_default().to_owned();
    let licence = text("licence");
    if !is_open(&licence) && !args.accept_licence {
        let why = format!(
            "{} is not open source: its licence is {licence}, see {} and {}/{}/README.md. Nothing of it is in Custody; its image is built by you, from its maker's package, under its maker's terms",
            args.name,
            text("homepage"),
            RECIPES,
            args.name
        );
        return Err(CliError::new(exit::REFUSED, "LICENCE_NOT_ACCEPTED", why)
            .hint(format!("custody runner build {} --accept-licence", args.name)));
    }
    let reached = match engine() {
        Ok(engine) => engine.facts().await.map(drop),
        Err(error) => Err(error),
    };
    reached.map_err(|e| {
        CliError::new(
            exit::UNREACHABLE,
            "ENGINE_UNREACHABLE",
            format!("no container engine to load the image into: {e}"),
        )
        .hint("ops/docker start; or name the engine in DOCKER_HOST")
    })?;
    notice(format!("building {} {}, licence {licence}, from {}", args.name, text("version"), source.display()));
    let begun = Instant::now();
    let id = build(&source, &args.name).await?;
    let document = install(&target.config.runners_folder(), &args.name)?;
    let runner = read_document(&document).map_err(super::broken)?;
    if runner.image != id || image_present(&id).await.0 != "yes" {
        return Err(CliError::new(
            exit::FAILED,
            "IMAGE_NOT_LOADED",
            format!("{id} was built, and the engine does not have it"),
        )
        .hint("DOCKER_HOST must name the same engine for the builder and for custody"));
    }
    notice(format!("built in {} s, {}", begun.elapsed().as_secs(), document.display()));
    notice(format!("next: custody runner verify {}", args.name));
    if ctx.render.format.is_some() {
        let built = json!({ "runner": args.name, "version": runner.version, "image": id, "document": document, "licence": licence });
        return ctx.render.one("runner-built.v1", "runner", &built);
    }
    line(id)
}

/// Whether an SPDX expression names no licence of somebody's own.
fn is_open(licence: &str) -> bool {
    !licence
        .split([' ', '(', ')'])
        .any(|word| word.starts_with("LicenseRef-") || matches!(word, "NONE" | "NOASSERTION"))
        && !licence.trim().is_empty()
}

fn is_source(folder: &Path) -> bool {
    folder.join(RECIPES).is_dir() && folder.join("crates/xtask/Cargo.toml").is_file()
}

fn source(named: Option<&Path>) -> CliResult<PathBuf> {
    if let Some(folder) = named {
        let folder = std::path::absolute(folder)?;
        return match is_source(&folder) {
            true => Ok(folder),
            false => Err(CliError::new(
                exit::NOT_FOUND,
                "NO_SOURCE",
                format!("{} is not Custody's source tree: it has no {RECIPES}/", folder.display()),
            )
            .hint("the folder that you cloned, with Cargo.toml and ops/ in it")),
        };
    }
    let here = std::env::current_dir()?;
    let noted = std::fs::read_to_string(cache_folder().join(SOURCE_NOTE)).ok().map(|text| PathBuf::from(text.trim()));
    let found = here.ancestors().map(Path::to_owned).chain(noted).find(|folder| is_source(folder));
    found.ok_or_else(|| {
        CliError::new(
            exit::NOT_FOUND,
            "NO_SOURCE",
            "the recipes of runners are in Custody's source tree, which is not here",
        )
        .hint("run it in the source tree, or name that with --source DIR")
    })
}

fn recipe(source: &Path, name: &str) -> CliResult<Value> {
    let recipes = source.join(RECIPES);
    let has = |folder: &Path| folder.join("runner.json").is_file() && folder.join("layer.toml").is_file();
    let plain = !name.is_empty() && !name.contains(['/', '.']);
    let folder = recipes.join(name);
    if !plain || !has(&folder) {
        let mut known: Vec<String> = std::fs::read_dir(&recipes)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| has(path))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        known.sort();
        return Err(CliError::new(
            exit::NOT_FOUND,
            "NO_RECIPE",
            format!("there is no recipe {name:?} in {}", recipes.display()),
        )
        .hint(format!("one of {}", known.join(", "))));
    }
    Ok(serde_json::from_slice(&std::fs::read(folder.join("runner.json"))?)?)
}

/// Runs the image builder; what it says goes through, and the image's id comes back.
async fn build(source: &Path, name: &str) -> CliResult<String> {
    let child = tokio::process::Command::new("cargo")
        .args(["run", "--quiet", "--locked", "--package", "xtask", "--", "image", name, "--load"])
        .current_dir(source)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|e| {
        CliError::new(exit::FAILED, "NO_BUILDER", format!("cargo cannot be run: {e}"))
            .hint("ops/setup installs what a build needs")
    })?;
    let output = child.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.lines().map(str::trim).rfind(|line| line.starts_with("sha256:"));
    match id.filter(|_| output.status.success()) {
        Some(id) => Ok(id.to_owned()),
        None => Err(CliError::new(exit::FAILED, "NOT_BUILT", format!("the image builder ended: {}", output.status))
            .hint("its last lines say what is missing; ops/setup installs mmdebstrap, npm and the rest")),
    }
}

/// The document where this installation reads documents; the builder writes it into the cache.
fn install(folder: &Path, name: &str) -> CliResult<PathBuf> {
    let file = format!("{name}.runner.json");
    let (built, wanted) = (cache_folder().join("runners").join(&file), folder.join(&file));
    if built != wanted {
        std::fs::create_dir_all(folder)?;
        let partial = folder.join(format!(".{file}.{}.partial", std::process::id()));
        std::fs::copy(&built, &partial)?;
        std::fs::rename(&partial, &wanted)?;
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::apache("Apache-2.0", true)]
    #[case::either("MIT OR Apache-2.0", true)]
    #[case::own("LicenseRef-Anthropic-Commercial-Terms", false)]
    #[case::own_beside("MIT AND (LicenseRef-x)", false)]
    #[case::none("NONE", false)]
    #[case::nothing("", false)]
    fn what_is_open(#[case] licence: &str, #[case] open: bool) {
        assert_eq!(is_open(licence), open);
    }

    #[rstest]
    #[case::known("custody-agent", true)]
    #[case::unknown("nobody", false)]
    #[case::climbs("../runner-images/pi", false)]
    #[case::no_recipe("worker", false)]
    #[case::nothing("", false)]
    fn a_recipe_is_a_folder_of_the_source_tree(#[case] name: &str, #[case] found: bool) {
        let root = std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
        assert!(is_source(&root));
        match recipe(&root, name) {
            Ok(recipe) => assert!(found && recipe["name"] == name),
            Err(error) => assert!(!found && error.hint.unwrap().contains("custody-agent")),
        }
    }

    /// Whoever accepts a licence has been told of it: the recipe of each agent that is not open says so.
    #[test]
    fn recipes_that_are_not_open_say_so() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let closed = ["claude-code"].map(|name| recipe(&root, name).unwrap());
        assert!(closed.iter().all(|recipe| !is_open(recipe["licence"].as_str().unwrap())));
        let open = ["custody-agent", "pi", "codex", "opencode"].map(|name| recipe(&root, name).unwrap());
        assert!(open.iter().all(|recipe| is_open(recipe["licence"].as_str().unwrap())));
    }
}
