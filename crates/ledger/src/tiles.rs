//! The tree as files: the layout that any C2SP client reads, so that a stranger makes every proof alone. Pure: paths and
//! bytes, no file system. Source: C2SP tlog-tiles (height 8, partial tiles, entry bundles).

use crate::merkle::{Frontier, Hash, leaf};

/// Hashes, or entries, of a full tile.
pub const TILE_WIDTH: usize = 256;
/// The largest entry that a bundle can hold: its length has two bytes.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// A file of the layout: its path below the folder, and what is in it.
pub type TileFile = (String, Vec<u8>);

/// An entry that no bundle can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} has {bytes} bytes; an entry bundle holds at most {ENTRY_BYTES_MAX}")]
pub struct EntryTooLarge {
    /// Which leaf.
    pub index: u64,
    /// Its size.
    pub bytes: usize,
}

/// Turns entries into tiles, in order. Memory: one tile a level and one bundle.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    frontier: Frontier,
    /// By level: how many full tiles there are, and the hashes of the next.
    levels: Vec<(u64, Vec<u8>)>,
    bundle: Vec<u8>,
}

impl Tiles {
    /// Takes the next entry and gives the files that it completes.
    ///
    /// # Errors
    /// [`EntryTooLarge`], and then nothing was taken.
    pub fn push(&mut self, entry: &[u8]) -> Result<Vec<TileFile>, EntryTooLarge> {
        let index = self.frontier.size();
        let too_large = EntryTooLarge { index, bytes: entry.len() };
        let length = u16::try_from(entry.len()).map_err(|_| too_large)?;
        let mut files = Vec::new();
        let levels = &mut self.levels;
        self.frontier.push_noting(leaf(entry), |height, place, hash| {
            if height.is_multiple_of(8) {
                files.extend(put(levels, height / 8, place, hash));
            }
        });
        self.bundle.extend_from_slice(&length.to_be_bytes());
        self.bundle.extend_from_slice(entry);
        let (tile, width) = ((index / TILE_WIDTH as u64), (index % TILE_WIDTH as u64) + 1);
        if width == TILE_WIDTH as u64 {
            files.push((path("entries", tile, None), std::mem::take(&mut self.bundle)));
        }
        Ok(files)
    }

    /// The partial tiles at the end.
    pub fn finish(self) -> Vec<TileFile> {
        let mut files = Vec::new();
        for (level, (tile, hashes)) in self.levels.into_iter().enumerate().filter(|(_, (_, h))| !h.is_empty()) {
            let width = hashes.len() / 32;
            files.push((path(&level.to_string(), tile, Some(width)), hashes));
        }
        if !self.bundle.is_empty() {
            let size = self.frontier.size();
            let width = usize::try_from(size % TILE_WIDTH as u64).unwrap_or_default();
            files.push((path("entries", size / TILE_WIDTH as u64, Some(width)), self.bundle));
        }
        files
    }

    /// How many entries were taken.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }
}

/// Puts a node at the end of its level's tile, and gives the tile when it is full.
fn put(levels: &mut Vec<(u64, Vec<u8>)>, level: u32, place: u64, hash: &Hash) -> Option<TileFile> {
    let at = usize::try_from(level).ok()?;
    if levels.len() <= at {
        levels.resize_with(at + 1, Default::default);
    }
    let (tile, hashes) = levels.get_mut(at)?;
    debug_assert_eq!(place, *tile * TILE_WIDTH as u64 + (hashes.len() / 32) as u64);
    hashes.extend_from_slice(hash);
    if hashes.len() < TILE_WIDTH * 32 {
        return None;
    }
    let file = (path(&level.to_string(), *tile, None), std::mem::take(hashes));
    *tile += 1;
    Some(file)
}

/// `tile/<level>/<index>`, the index in groups of three digits, all but the last with an `x` before them; a partial tile
/// ends in `.p/<width>`.
fn path(level: &str, index: u64, partial: Option<usize>) -> String {
    let mut groups = vec![format!("{:03}", index % 1_000)];
    let mut rest = index / 1_000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1_000));
        rest /= 1_000;
    }
    groups.reverse();
    let partial = partial.map_or_else(String::new, |width| format!(".p/{width}"));
    format!("tile/{level}/{}{partial}", groups.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::root;
    use rstest::rstest;
    use std::collections::BTreeMap;

    fn files(n: u64) -> (BTreeMap<String, Vec<u8>>, Hash) {
        let mut tiles = Tiles::default();
        let mut files = BTreeMap::new();
        for i in 0..n {
            files.extend(tiles.push(&i.to_be_bytes()).unwrap());
        }
        assert_eq!(tiles.size(), n);
        let top = tiles.root();
        files.extend(tiles.finish());
        (files, top)
    }

    #[rstest]
    #[case::nothing(0, &[])]
    #[case::one(1, &["tile/0/000.p/1", "tile/entries/000.p/1"])]
    #[case::a_full_tile(256, &["tile/0/000", "tile/1/000.p/1", "tile/entries/000"])]
    #[case::one_more(257, &["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/1"])]
    fn a_tree_is_these_files(#[case] n: u64, #[case] expected: &[&str]) {
        let (files, _) = files(n);
        assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_tiles_are_the_nodes_of_the_tree() {
        let (files, top) = files(70_000);
        let hashes = |path: &str| -> Vec<Hash> { files[path].chunks(32).map(|raw| raw.try_into().unwrap()).collect() };
        let leaves = |from: u64, to: u64| -> Vec<Hash> { (from..to).map(|i| leaf(&i.to_be_bytes())).collect() };
        assert_eq!(hashes("tile/0/007"), leaves(7 * 256, 8 * 256));
        assert_eq!(hashes("tile/1/000")[3], root(&leaves(3 * 256, 4 * 256)));
        assert_eq!(hashes("tile/2/000.p/1"), [root(&leaves(0, 65_536))]);
        assert_eq!(hashes("tile/1/001.p/17").len(), 70_000 / 256 - 256);
        assert_eq!(hashes("tile/0/273.p/112").len(), 70_000 % 256);
        assert_eq!(top, root(&leaves(0, 70_000)));
        let bundle = &files["tile/entries/273.p/112"];
        assert_eq!(bundle.len(), 112 * 10);
        assert_eq!(bundle[..10], [[0, 8].as_slice(), &69_888u64.to_be_bytes()].concat());
    }

    #[rstest]
    #[case(0, "tile/0/000")]
    #[case(67, "tile/0/067")]
    #[case(1_234_067, "tile/0/x001/x234/067")]
    fn an_index_is_written_in_groups(#[case] index: u64, #[case] expected: &str) {
        assert_eq!(path("0", index, None), expected);
    }

    #[test]
    fn an_entry_beyond_two_bytes_of_length_is_refused_and_nothing_is_taken() {
        let mut tiles = Tiles::default();
        assert!(tiles.push(&vec![7; ENTRY_BYTES_MAX]).is_ok());
        let too_large = EntryTooLarge { index: 1, bytes: ENTRY_BYTES_MAX + 1 };
        assert_eq!(tiles.push(&vec![7; ENTRY_BYTES_MAX + 1]), Err(too_large));
        assert_eq!(tiles.size(), 1);
    }
}
