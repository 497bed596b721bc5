// A server of one tool that reads messages as Go's encoding/json does: a member counts in any capitals, and of two the last
// one does. It prints its address, and GET /heard says which tool it was asked for and for whom.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string `json:"name"`
		Arguments struct {
			To string `json:"to"`
		} `json:"arguments"`
	} `json:"params"`
}

type heard struct {
	Tool string `json:"tool"`
	To   string `json:"to"`
}

func main() {
	var lock sync.Mutex
	calls := []heard{}
	answer := func(w http.ResponseWriter, value any) {
		w.Header().Set("content-type", "application/json")
		// Who has gone needs no answer.
		_ = json.NewEncoder(w).Encode(value)
	}
	http.HandleFunc("GET /heard", func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		answer(w, calls)
	})
	http.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) {
		var asked message
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil {
			err = json.Unmarshal(body, &asked)
		}
		if err != nil {
			http.Error(w, "no message", http.StatusBadRequest)
			return
		}
		if len(asked.ID) == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		var result any
		switch asked.Method {
		case "initialize":
			result = map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{}}
		case "tools/list":
			text := map[string]any{"type": "string"}
			schema := map[string]any{"type": "object", "properties": map[string]any{"to": text}, "required": []string{"to"}}
			result = map[string]any{"tools": []any{
				map[string]any{"name": "send", "description": "Sends a letter.", "inputSchema": schema},
			}}
		case "tools/call":
			lock.Lock()
			calls = append(calls, heard{asked.Params.Name, asked.Params.Arguments.To})
			lock.Unlock()
			text := map[string]any{"type": "text", "text": "sent to " + asked.Params.Arguments.To}
			result = map[string]any{"content": []any{text}}
		default:
			result = map[string]any{}
		}
		answer(w, map[string]any{"jsonrpc": "2.0", "id": asked.ID, "result": result})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	panic(http.Serve(listener, nil))
}
