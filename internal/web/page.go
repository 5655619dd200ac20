package web

import (
	"crypto/sha256"
	_ "embed" // the parts of the page
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
)

// The status page needs nothing from anywhere else: it is one file, which asks for
// /api/live and its like.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/words.js
	wordsJS string
	//go:embed page/draw.js
	drawJS string
	//go:embed page/page.js
	pageJS string
)

// whole is the page, and the policy under which browsers run nothing but what is in it.
var whole = sync.OnceValues(func() (text []byte, policy string) {
	script := wordsJS + drawJS + pageJS
	html := strings.Replace(pageHTML, "<style></style>", "<style>"+pageCSS+"</style>", 1)
	html = strings.Replace(html, "<script></script>", "<script>"+script+"</script>", 1)
	return []byte(html), "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(pageCSS) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
		"; require-trusted-types-for 'script'"
})

// hash is a text as a Content-Security-Policy names it.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func page(w http.ResponseWriter, _ *http.Request) {
	text, policy := whole()
	w.Header().Set("Content-Security-Policy", policy)
	write(w, http.StatusOK, "text/html; charset=utf-8", text)
}
