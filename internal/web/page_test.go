package web

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// TestPageIsSelfContained: nothing from elsewhere, nothing that the policy would refuse,
// and nothing in the policy that is not in the page.
func TestPageIsSelfContained(t *testing.T) {
	w := httptest.NewRecorder()
	simple().Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	html, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d, %v", w.Code, w.Header())
	}
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'; ") {
		t.Error(policy)
	}
	for _, kind := range []string{"script", "style"} {
		parts := regexp.MustCompile(`(?s)<`+kind+`>(.+?)</`+kind+`>`).FindAllStringSubmatch(html, -1)
		if len(parts) != 1 || !strings.Contains(policy, kind+"-src "+hash(parts[0][1])+";") {
			t.Errorf("%d times %s, and the policy is %s", len(parts), kind, policy)
		}
	}
	for _, bad := range []string{`<script `, `<link rel="stylesheet"`, ` style=`, ` onclick=`, ` src=`, `@import`, `innerHTML`, `eval(`} {
		if strings.Contains(html, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if found := regexp.MustCompile(`https?://[^"'\s]+`).FindAllString(html, -1); strings.Join(found, " ") != "http://www.w3.org/2000/svg http://www.w3.org/1999/xhtml http://www.w3.org/2000/svg" {
		t.Errorf("the page names %q", found)
	}
	if len(html) > 64<<10 {
		t.Errorf("%d bytes", len(html))
	}
}
