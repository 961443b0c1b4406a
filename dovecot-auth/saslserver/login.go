package saslserver

import (
	"errors"

	"github.com/emersion/go-sasl"
)

// loginServer is the server of the LOGIN mechanism
// (draft-murchison-sasl-login): obsolete, but Outlook offers nothing else.
type loginServer struct {
	step         int
	username     string
	authenticate func(username, password string) error
}

func newLoginServer(authenticate func(username, password string) error) sasl.Server {
	return &loginServer{authenticate: authenticate}
}

var errNoMore = errors.New("sasl: LOGIN has ended")

// Next implements sasl.Server. An initial response is the user name.
func (s *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if s.step == 0 && response == nil {
		s.step = 1
		return []byte("Username:"), false, nil
	}
	switch s.step {
	case 0, 1:
		s.username, s.step = string(response), 2
		return []byte("Password:"), false, nil
	case 2:
		s.step = 3
		return nil, true, s.authenticate(s.username, string(response))
	}
	return nil, true, errNoMore
}
