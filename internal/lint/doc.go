// Package lint holds no code, only tests of the source tree itself: who may
// import whom, what only package main may do, and a few habits. They are rules
// that no compiler checks and that one careless line undoes. Every rule is shown
// to find what it is for.
package lint
