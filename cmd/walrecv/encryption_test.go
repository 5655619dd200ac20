package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// keyFile writes a file of keys, with a mode.
func keyFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEncryptOptions(t *testing.T) {
	a, b, c := identity(t).Recipient().String(), identity(t).Recipient().String(), identity(t).Recipient().String()
	file := keyFile(t, "# ours\n"+b+"\n\n"+c+"\n", 0o600)
	secret := keyFile(t, strings.Repeat("5eC7et--", 4), 0o600)
	config := writeFile(t, "archive = \"/a\"\ndigest_key = \""+secret+"\"\nencrypt_to = [\""+a+"\", \"@"+file+"\"]\n")
	for _, args := range []string{
		"--archive /a --encrypt-to " + a + " --encrypt-to @" + file + " --digest-key " + secret,
		"--config " + config,
	} {
		o := walrecv(nil, strings.Fields("receive -D /s "+args)...)
		if o.receive == nil {
			t.Fatalf("%s: exit %d, %s", args, o.code, o.stderr)
		}
		e, err := o.receive.encrypt.encryption()
		if err != nil || !e.Keyed() {
			t.Errorf("%s: %v", args, err)
		}
	}
	// The stronger source counts, alone.
	o := walrecv([]string{"WALRECV_ENCRYPT_TO=" + b + ", " + c}, "receive", "-D", "/s", "--config", config)
	if o.receive == nil || o.receive.encrypt.to != b+","+c {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
	o = walrecv([]string{"WALRECV_ENCRYPT_TO=" + b}, "receive", "-D", "/s", "--config", config, "--encrypt-to", c, "--encrypt-to", a)
	if o.receive == nil || o.receive.encrypt.to != c+","+a {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
	if e, err := new(encryptOptions).encryption(); e != nil || err != nil {
		t.Errorf("without options: %v, %v", e, err)
	}
}

func TestEncryptOptionsThatAreRefused(t *testing.T) {
	a := identity(t)
	recipient, secret := a.Recipient().String(), a.String()
	for args, want := range map[string]string{
		"--digest-key /k --archive /a":                 "--digest-key needs --encrypt-to",
		"--encrypt-to " + recipient:                    "--encrypt-to needs --archive",
		"--archive /a --encrypt-to=":                   "--encrypt-to: must not be empty",
		"--archive /a --encrypt-to=" + recipient + ",": "--encrypt-to: must not be empty",
	} {
		if o := walrecv(nil, strings.Fields("receive -D /s "+args)...); o.code != exitUsage || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit %d, %s", args, o.code, o.stderr)
		}
	}
	wrong := keyFile(t, "# ours\n"+recipient+"\n"+secret+"\n", 0o600)
	short := keyFile(t, "5eC7et", 0o600)
	for want, o := range map[string]encryptOptions{
		"--encrypt-to: not an age recipient":                        {to: "rot13"},
		"--encrypt-to: this is a secret key":                        {to: recipient + "," + secret},
		"--encrypt-to: " + wrong + ": line 3: this is a secret key": {to: "@" + wrong},
		"--encrypt-to: open /not/there":                             {to: "@/not/there"},
		"--digest-key: " + short + ": it holds a key of 6 bytes":    {to: recipient, digestKey: short},
		"--digest-key: open /not/there":                             {to: recipient, digestKey: "/not/there"},
	} {
		e, err := o.encryption()
		if e != nil || err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
			continue
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "5eC7et") {
			t.Errorf("it tells a secret: %v", err)
		}
	}
	// A secret in a configuration file is not shown either.
	config := writeFile(t, "[receive]\nencrypt_to = [\""+secret+"\", 7]\n")
	if o := walrecv(nil, "receive", "-D", "/s", "--config", config); o.code != exitUsage || !strings.Contains(o.stderr, "list of strings") {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
}

func TestDecryptWith(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	good, bad := keyFile(t, identity(t).String(), 0o600), keyFile(t, "# x\n5eC7et\n", 0o600)
	for _, command := range []string{"status", "verify"} {
		for file, want := range map[string]string{bad: "--decrypt-with: " + bad + ": line 2: not an age identity", "/not/there": "open /not/there"} {
			o := walrecv(nil, command, "--archive", dir, "--decrypt-with", file)
			if o.code != exitUsage || !strings.Contains(o.stderr, want) || strings.Contains(o.stderr, "5eC7et") {
				t.Errorf("%s: exit %d, %s", command, o.code, o.stderr)
			}
		}
	}
	if o := walrecv([]string{"WALRECV_DECRYPT_WITH=" + good}, "status", "--archive", dir); o.code != exitDone {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
	o := walrecv(nil, "restore", "--archive", dir, "--decrypt-with", good, "000000010000000000000001", "x")
	if o.restore == nil {
		t.Fatalf("exit %d, %s", o.code, o.stderr)
	}
	if keys, err := o.restore.read.keys(); err != nil || len(keys.Identities) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}

func TestEncryptionWarnings(t *testing.T) {
	for _, c := range []struct {
		o    encryptOptions
		want string
	}{
		{encryptOptions{}, ""},
		{encryptOptions{to: "x"}, "can be guessed"},
		{encryptOptions{to: "x", digestKey: "k"}, ""},
	} {
		var log strings.Builder
		c.o.warn(slog.New(slog.NewTextHandler(&log, nil)))
		if got := log.String(); !strings.Contains(got, c.want) || (got != "") != (c.want != "") {
			t.Errorf("%+v: %q", c.o, got)
		}
	}
}
