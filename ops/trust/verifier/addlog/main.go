// Tells a litewitness database of a log: its origin and its key. What witnessctl does, whose other parts are not needed here.
//
//	addlog DATABASE VKEY
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("addlog DATABASE VKEY")
	}
	key := strings.TrimSpace(args[1])
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	db, err := sqlite.OpenConn(args[0], sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer db.Close()
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return err
	}
	insert := func(query string, values ...any) error {
		return sqlitex.Execute(db, query, &sqlitex.ExecOptions{Args: values})
	}
	if err := insert("INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", verifier.Name(), empty.String()); err != nil {
		return err
	}
	return insert("INSERT INTO key (origin, key) VALUES (?, ?)", verifier.Name(), key)
}
