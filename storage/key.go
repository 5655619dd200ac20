package storage

import (
	"errors"
	"fmt"
	"strings"
)

// The limits of a key, in bytes. They are those that every store can keep:
// object stores take 1024 bytes, file systems 255 bytes for a name.
const (
	MaxKey     = 1024
	MaxElement = 255
)

// CheckKey tells whether a key is one that every Store must take: at most
// [MaxKey] bytes, in slash-separated elements of at most [MaxElement] bytes
// each. A Store refuses every other key, in every call, with this error, which
// says nothing about an object.
func CheckKey(key string) error {
	if err := checkStart(key); err != nil {
		return fmt.Errorf("storage key %q: %w", clip(key), err)
	}
	last := key[strings.LastIndexByte(key, '/')+1:]
	if err := checkElement(last); err != nil {
		return fmt.Errorf("storage key %q: %w", clip(key), err)
	}
	return nil
}

// CheckPrefix tells whether a key could begin with prefix. The empty prefix is
// the beginning of every key. A Store refuses to list any other prefix.
func CheckPrefix(prefix string) error {
	if err := checkStart(prefix); err != nil {
		return fmt.Errorf("storage prefix %q: %w", clip(prefix), err)
	}
	return nil
}

// checkStart checks what holds for a key and for every beginning of one: the
// last element may still be empty or dots.
func checkStart(s string) error {
	if len(s) > MaxKey {
		return fmt.Errorf("has %d bytes, more than %d", len(s), MaxKey)
	}
	for i := range len(s) {
		if s[i] != '/' && !keyByte(s[i]) {
			return fmt.Errorf("has the byte %q, which is none of A-Z a-z 0-9 . _ - + =", s[i])
		}
	}
	elements := strings.Split(s, "/")
	for _, e := range elements[:len(elements)-1] {
		if err := checkElement(e); err != nil {
			return err
		}
	}
	return checkLength(elements[len(elements)-1])
}

func checkElement(e string) error {
	switch e {
	case "":
		return errors.New("has an empty element")
	case ".", "..":
		return fmt.Errorf("has the element %q", e)
	}
	return checkLength(e)
}

func checkLength(element string) error {
	if len(element) > MaxElement {
		return fmt.Errorf("has an element of %d bytes, more than %d", len(element), MaxElement)
	}
	return nil
}

func keyByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("._-+=", c) >= 0
}

// clip keeps a wrong key from flooding a log line.
func clip(key string) string {
	const most = 80
	if len(key) <= most {
		return key
	}
	return key[:most] + "..."
}
