// A stranger's verifier: it knows C2SP and nothing of Custody. Formats, tree and signatures are those of other makers
// (golang.org/x/mod, transparency-dev/formats, torchwood); here they are only put together.
//
//	c2sp-verify proof       -log VKEY [-witness VKEY]... PROOF ENTRY
//	c2sp-verify tree        -log VKEY [-witness VKEY]... FOLDER
//	c2sp-verify consistency -log VKEY FOLDER OLDER-CHECKPOINT
//
// Exit code 0 and "good", or 1 and the reason.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/torchwood"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type keys []string

func (k *keys) String() string     { return strings.Join(*k, " ") }
func (k *keys) Set(v string) error { *k = append(*k, strings.TrimSpace(v)); return nil }

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("proof, tree or consistency"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var log string
	var witnesses keys
	flags.StringVar(&log, "log", "", "verifier key of the log")
	flags.Var(&witnesses, "witness", "verifier key of a witness that must have cosigned")
	_ = flags.Parse(os.Args[2:])
	args := flags.Args()
	var err error
	switch {
	case os.Args[1] == "proof" && len(args) == 2:
		err = inclusion(strings.TrimSpace(log), witnesses, args[0], args[1])
	case os.Args[1] == "tree" && len(args) == 1:
		err = tree(strings.TrimSpace(log), witnesses, args[0])
	case os.Args[1] == "consistency" && len(args) == 2:
		err = consistency(strings.TrimSpace(log), args[0], args[1])
	default:
		err = errors.New("proof PROOF ENTRY, tree FOLDER, or consistency FOLDER CHECKPOINT")
	}
	if err != nil {
		fail(err)
	}
	fmt.Println("good")
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// open verifies a checkpoint: the log's signature, and one of every witness.
func open(data []byte, log string, witnesses keys) (torchwood.Checkpoint, error) {
	none := torchwood.Checkpoint{}
	own, err := note.NewVerifier(log)
	if err != nil {
		return none, fmt.Errorf("the log's key: %w", err)
	}
	verifiers := []note.Verifier{own}
	for _, key := range witnesses {
		verifier, err := fnote.NewVerifierForCosignatureV1(key)
		if err != nil {
			return none, fmt.Errorf("a witness's key: %w", err)
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open(data, note.VerifierList(verifiers...))
	if err != nil {
		return none, err
	}
	for _, verifier := range verifiers {
		found := false
		for _, signature := range opened.Sigs {
			found = found || signature.Name == verifier.Name() && signature.Hash == verifier.KeyHash()
		}
		if !found {
			return none, fmt.Errorf("%s did not sign", verifier.Name())
		}
	}
	checkpoint, err := torchwood.ParseCheckpoint(opened.Text)
	if err != nil {
		return none, err
	}
	if checkpoint.Origin != own.Name() {
		return none, fmt.Errorf("the checkpoint is of %q, the key of %q", checkpoint.Origin, own.Name())
	}
	return checkpoint, nil
}

func inclusion(log string, witnesses keys, proofFile, entryFile string) error {
	data, err := os.ReadFile(proofFile)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return err
	}
	var read proof.TLogProof
	if err := read.Unmarshal(data); err != nil {
		return err
	}
	checkpoint, err := open(read.Checkpoint, log, witnesses)
	if err != nil {
		return err
	}
	path := make(tlog.RecordProof, len(read.Hashes))
	for at, hash := range read.Hashes {
		path[at] = tlog.Hash(hash)
	}
	return tlog.CheckRecord(path, checkpoint.N, checkpoint.Hash, int64(read.Index), tlog.RecordHash(entry))
}

// files reads tiles from a folder in the layout of C2SP tlog-tiles.
type files struct{ folder string }

func (f files) Height() int                         { return torchwood.TileHeight }
func (f files) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for at, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(f.folder, torchwood.TilePath(tile)))
		if err != nil {
			return nil, err
		}
		out[at] = data
	}
	return out, nil
}

func checkpointOf(folder, log string, witnesses keys) (torchwood.Checkpoint, error) {
	data, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return torchwood.Checkpoint{}, err
	}
	return open(data, log, witnesses)
}

// tree hashes every entry of the folder and compares with the signed root.
func tree(log string, witnesses keys, folder string) error {
	checkpoint, err := checkpointOf(folder, log, witnesses)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(checkpoint.Tree, files{folder})
	for index := int64(0); index < checkpoint.N; {
		width := min(checkpoint.N-index, torchwood.TileWidth)
		tile := tlog.Tile{H: torchwood.TileHeight, L: -1, N: index / torchwood.TileWidth, W: int(width)}
		data, err := os.ReadFile(filepath.Join(folder, torchwood.TilePath(tile)))
		if err != nil {
			return err
		}
		for range width {
			entry, rest, err := torchwood.ReadTileEntry(data)
			if err != nil {
				return err
			}
			data = rest
			path, err := tlog.ProveRecord(checkpoint.N, index, reader)
			if err != nil {
				return err
			}
			if err := tlog.CheckRecord(path, checkpoint.N, checkpoint.Hash, index, tlog.RecordHash(entry)); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
			index++
		}
		if len(data) != 0 {
			return fmt.Errorf("more in the bundle that ends with entry %d", index-1)
		}
	}
	return nil
}

func consistency(log, folder, olderFile string) error {
	checkpoint, err := checkpointOf(folder, log, nil)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(olderFile)
	if err != nil {
		return err
	}
	older, err := open(data, log, nil)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(checkpoint.Tree, files{folder})
	path, err := tlog.ProveTree(checkpoint.N, older.N, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(path, checkpoint.N, checkpoint.Hash, older.N, older.Hash)
}
