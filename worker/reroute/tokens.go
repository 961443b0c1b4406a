package reroute

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// tokens reads JSON without holding more than a token.
type tokens struct {
	d      *json.Decoder
	counts map[string]*count // by the domains that matter
}

// message reads one object; io.EOF when there is none.
func (t tokens) message() (m message, err error) {
	first, err := t.d.Token()
	if err != nil {
		return m, err
	}
	if first != json.Delim('{') {
		return m, fmt.Errorf("want an object, got %.40v", first)
	}
	err = t.object(func(key string) error {
		switch key {
		case "queue_name":
			return t.text(&m.queue)
		case "queue_id":
			return t.text(&m.id)
		case "recipients":
			m.recipients = map[string]int{}
			return t.recipients(m.recipients)
		default:
			return t.skip()
		}
	})
	return m, err
}

func (t tokens) recipients(n map[string]int) error {
	if first, err := t.d.Token(); err != nil || first != json.Delim('[') {
		return errors.Join(err, errors.New("want a list of recipients"))
	}
	for t.d.More() {
		if first, err := t.d.Token(); err != nil || first != json.Delim('{') {
			return errors.Join(err, errors.New("want a recipient"))
		}
		err := t.object(func(key string) error {
			if key != "address" {
				return t.skip()
			}
			var a string
			if err := t.text(&a); err != nil {
				return err
			}
			if d, ok := t.domainOf(a); ok {
				n[d]++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return t.end()
}

// object calls value for each key up to the closing brace.
func (t tokens) object(value func(key string) error) error {
	for t.d.More() {
		var key string
		if err := t.text(&key); err != nil {
			return err
		}
		if err := value(key); err != nil {
			return unexpected(err)
		}
	}
	return t.end()
}

func (t tokens) text(s *string) error {
	v, err := t.d.Token()
	if err != nil {
		return unexpected(err)
	}
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("want a string, got %.40v", v)
	}
	*s = text
	return nil
}

// skip passes over one value.
func (t tokens) skip() error {
	for depth := 0; ; {
		v, err := t.d.Token()
		if err != nil {
			return unexpected(err)
		}
		if d, ok := v.(json.Delim); ok {
			if d == '{' || d == '[' {
				depth++
			} else {
				depth--
			}
		}
		if depth <= 0 {
			return nil
		}
	}
}

// end takes the closing brace or bracket.
func (t tokens) end() error {
	_, err := t.d.Token()
	return unexpected(err)
}

// unexpected makes an end within a message an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
