// Package packaging holds no code, only what makes packages of the program, and tests
// of that, which "make packages-test" runs: with the tag packages, on Debian, by root.
package packaging
