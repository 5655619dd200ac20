// Command hello is what the tests of pgtest build and run: it prints its user
// and its environment, and with an argument waits for a signal.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Printf("uid %d\n%s\n", os.Getuid(), strings.Join(os.Environ(), "\n"))
	if len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "waiting: %s\n", os.Args[1])
		<-signals
		os.Exit(7)
	}
}
