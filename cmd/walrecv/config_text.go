package main

import (
	"errors"
	"fmt"
	"strings"
)

// tomlText turns a value of a configuration file into the text of an option of
// this kind.
func tomlText(kind string, value any) (string, error) {
	switch v := value.(type) {
	case bool:
		if kind == kindBool {
			return fmt.Sprint(v), nil
		}
	case int64:
		if kind != kindBool && kind != kindString {
			return fmt.Sprint(v), nil
		}
	case string:
		if kind != kindBool && kind != kindInt {
			return v, nil
		}
	case []any:
		if kind == kindList {
			return tomlList(v)
		}
	}
	switch kind {
	case kindBool:
		return "", errors.New("must be true or false")
	case kindInt:
		return "", errors.New("must be a whole number, without quotes")
	case kindString:
		return "", errors.New("must be a string, in quotes")
	case kindList:
		return "", errNoList
	}
	return "", errors.New("must be a string, in quotes, or a whole number")
}

var errNoList = errors.New("must be a string, in quotes, or a list of strings in brackets")

// tomlList turns a list of strings into the text of an option.
func tomlList(values []any) (string, error) {
	var texts []string
	for _, v := range values {
		text, ok := v.(string)
		if !ok {
			return "", errNoList
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ","), nil
}
