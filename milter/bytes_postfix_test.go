package main

import (
	"slices"
	"strings"
)

// manner is what the outcome depends on beside the message.
type manner int

const (
	byDATA     manner = 1 << iota // and not by BDAT
	stockDrops                    // message_drop_headers is as Postfix has it
)

const (
	headerLimit = 60000 // bytes of a header field, line ends counted as one, where milters are used
	lineLimit   = 2048  // Postfix's line_length_limit: a longer line comes in pieces
)

// asPostfixSees is what Postfix 3.7 itself makes of a message before any
// milter sees it, as docs/archive-format.md tells. Everything else must come
// through byte by byte.
func asPostfixSees(sent []byte, how manner) string {
	lines := strings.SplitAfter(string(sent), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i, l := range lines { // line ends become CRLF
		l = strings.TrimRight(strings.TrimSuffix(l, "\n"), "\r")
		lines[i] = strings.ReplaceAll(l, "\r", " ") + "\r\n" // cleanup_replace_stray_cr_lf
	}
	var out strings.Builder
	if how&byDATA != 0 {
		for len(lines) > 0 && isFromLine(lines[0]) {
			out.WriteString("X-Mailbox-Line: " + upToNUL(lines[0]))
			lines = lines[1:]
		}
		if len(lines) > 0 && isFolded(lines[0]) {
			return out.String() + "\r\n" + strings.Join(lines, "")
		}
	}
	for len(lines) > 0 && isFolded(lines[0]) { // into the Received field above
		lines = lines[1:]
	}
	for len(lines) > 0 {
		name, value, ok := headerName(lines[0])
		switch {
		case lines[0] == "\r\n":
			return out.String() + strings.Join(lines, "")
		case !ok:
			return out.String() + "\r\n" + strings.Join(lines, "")
		}
		field := []string{name + ":" + value}
		for lines = lines[1:]; len(lines) > 0 && isFolded(lines[0]); lines = lines[1:] {
			field = append(field, lines[0])
		}
		if how&stockDrops == 0 || !slices.Contains([]string{"bcc", "content-length", "resent-bcc", "return-path"}, strings.ToLower(name)) {
			out.WriteString(cut(field))
		}
	}
	return out.String() + "\r\n"
}

func isFolded(line string) bool { return line[0] == ' ' || line[0] == '\t' }

func isFromLine(line string) bool {
	return strings.HasPrefix(strings.TrimLeft(line, ">"), "From ")
}

// upToNUL is a line as far as C takes it for one.
func upToNUL(line string) string {
	before, _, found := strings.Cut(line, "\x00")
	if found {
		return before + "\r\n"
	}
	return line
}

// cut is as much of a header field as Postfix takes: whole lines, if they are
// nine tenths of it.
func cut(lines []string) string {
	var out strings.Builder
	size := 0
	for _, line := range lines {
		line = strings.TrimSuffix(upToNUL(line), "\r\n")
		room := headerLimit - size
		if len(line) <= room {
			out.WriteString(line + "\r\n")
			size += len(line) + 1
			continue
		}
		if size <= headerLimit/10*9 {
			out.WriteString(line[:room] + "\r\n")
		}
		break
	}
	return out.String()
}

// headerName splits a line at the colon of a header name, without the blanks
// before it. The name is in the first piece of the line, or there is none.
func headerName(line string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(line, ":")
	ok = ok && len(name) < lineLimit
	name = strings.TrimRight(name, " \t")
	for _, c := range []byte(name) {
		ok = ok && c > ' ' && c < 0x7f
	}
	return name, value, ok && name != ""
}
