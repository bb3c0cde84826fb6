// The server of bench/http in Go: http PORT [TLSPORT CERTIFICATE KEY]
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "Hello, World!")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			Order    int     `json:"order"`
			Customer string  `json:"customer"`
			Email    string  `json:"email"`
			Paid     bool    `json:"paid"`
			Total    float64 `json:"total"`
			Items    []struct {
				SKU   string  `json:"sku"`
				Name  string  `json:"name"`
				Count int     `json:"count"`
				Price float64 `json:"price"`
				Gift  bool    `json:"gift"`
			} `json:"items"`
			Note string `json:"note"`
		}
		if err := json.NewDecoder(r.Body).Decode(&order); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(&order)
	})
	if len(os.Args) > 4 {
		go func() {
			log.Fatal(http.ListenAndServeTLS("127.0.0.1:"+os.Args[2], os.Args[3], os.Args[4], mux))
		}()
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}
