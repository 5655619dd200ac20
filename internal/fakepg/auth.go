package fakepg

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

// authenticate demands what the configuration says. Its errors end the
// connection; the client was told.
func (c *Conn) authenticate() error {
	user := c.parameters["user"]
	refuse := func() error {
		return c.Fail(Error{"FATAL", "28P01", fmt.Sprintf("password authentication failed for user %q", user)})
	}
	switch c.server.config.Auth {
	case "":
		return nil
	case "password":
		ok, err := c.cleartext(user)
		if err == nil && !ok {
			return refuse()
		}
		return err
	default:
		ok, err := c.scram(user)
		if err == nil && !ok {
			return refuse()
		}
		return err
	}
}

func (c *Conn) cleartext(user string) (bool, error) {
	if err := c.backend.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return false, err
	}
	if err := c.Send(&pgproto3.AuthenticationCleartextPassword{}); err != nil {
		return false, err
	}
	message, err := c.backend.Receive()
	if err != nil {
		return false, err
	}
	answer, ok := message.(*pgproto3.PasswordMessage)
	password, known := c.server.config.Passwords[user]
	return ok && known && answer.Password == password, nil
}

// scram is SCRAM-SHA-256 without channel binding.
func (c *Conn) scram(user string) (bool, error) {
	conversation, err := c.server.conversation(user)
	if err != nil {
		return false, err
	}
	if err := c.backend.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
		return false, err
	}
	if err := c.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}); err != nil {
		return false, err
	}
	first, err := c.backend.Receive()
	if err != nil {
		return false, err
	}
	initial, ok := first.(*pgproto3.SASLInitialResponse)
	if !ok {
		return false, nil
	}
	challenge, err := conversation.Step(string(initial.Data))
	if err != nil {
		return false, nil //nolint:nilerr // a failed conversation is a refusal
	}
	if err := c.backend.SetAuthType(pgproto3.AuthTypeSASLContinue); err != nil {
		return false, err
	}
	if err := c.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte(challenge)}); err != nil {
		return false, err
	}
	second, err := c.backend.Receive()
	if err != nil {
		return false, err
	}
	response, ok := second.(*pgproto3.SASLResponse)
	if !ok {
		return false, nil
	}
	final, err := conversation.Step(string(response.Data))
	if err != nil || !conversation.Valid() {
		return false, nil //nolint:nilerr // as above
	}
	return true, c.Send(&pgproto3.AuthenticationSASLFinal{Data: []byte(final)})
}

// conversation starts the server's side of SCRAM for a role; an unknown role
// has a password that nobody knows.
func (s *Server) conversation(user string) (*scram.ServerConversation, error) {
	password, known := s.config.Passwords[user]
	if !known {
		password = "\x01 no such role"
	}
	client, err := scram.SHA256.NewClientUnprepped(user, password, "")
	if err != nil {
		return nil, err
	}
	credentials, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "fakepg salt 0123", Iters: 4096})
	if err != nil {
		return nil, err
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return credentials, nil })
	if err != nil {
		return nil, err
	}
	return server.NewConversation(), nil
}
