package main

import (
	"fmt"
	"strings"
)

// nastier are more messages of which one byte easily goes astray: bounds of
// Postfix's own, and what is nearly a header.
func nastier() map[string][]byte {
	return map[string][]byte{
		"only dots":           []byte(".\r\n..\r\n...\r\n"),
		"control bytes":       []byte("Subject: \x01\x1b[31m\x7f\x08\r\nX\x1b: y\r\n\r\n\x1b\x7f\x00\x00\r\n"),
		"DEL in name":         []byte("A: b\r\nX\x7f: y\r\n\r\nx\r\n"),
		"blank in name":       []byte("A: b\r\nFoo Bar: x\r\nC: d\r\n\r\nx\r\n"),
		"no name":             []byte("A: b\r\n: x\r\nC: d\r\n\r\nx\r\n"),
		"only blanks":         []byte("A: b\r\n \t \r\nC: d\r\n\r\nx\r\n"),
		"8 bit name":          []byte("A: b\r\nX\xc3\xa9: y\r\nC: d\r\n\r\nx\r\n"),
		"UTF-8":               []byte("Subject: \xc3\xa9\xf0\x9f\x98\x80\r\nTo: \xc3\xa9@\xc3\xa9.test\r\n\r\n\xc3\xa9\r\n"),
		"empty fields":        []byte("A:\r\nB:\r\n C:\r\nD:\t\r\n\r\n\r\n"),
		"colons":              []byte("A::\r\nB:: :\r\nC:D: E\r\n\r\nx\r\n"),
		"blanks before colon": []byte("A \t : b\r\nB :\r\nC :d\r\n e\r\n\r\nx : y\r\n"),
		"long name":           []byte("X-" + strings.Repeat("n", 3000) + ": y\r\nA: b\r\n\r\nx\r\n"),
		"header of 100,000":   []byte("A: b\r\nSubject: " + strings.Repeat("0123456789", 10000) + "\r\nC: d\r\n\r\nx\r\n"),
		"folded of 100,000":   []byte("A: b\r\nTo: a@b" + strings.Repeat(",\r\n c@d", 12500) + "\r\nC: d\r\n\r\nx\r\n"),
		"100,000 of headers":  []byte(strings.Repeat("X-Some: "+strings.Repeat("y", 990)+"\r\n", 100) + "\r\nx\r\n"),
		"header of 59,999":    []byte("Subject: " + strings.Repeat("x", 59990) + "\r\nC: d\r\n\r\nx\r\n"),
		"header of 60,001":    []byte("Subject: " + strings.Repeat("x", 59992) + "\r\nC: d\r\n\r\nx\r\n"),
		"long second line":    []byte("Subject: a\r\n " + strings.Repeat("x", 70000) + "\r\n y\r\nC: d\r\n\r\nx\r\n"),
		"long third line":     []byte("Subject: " + strings.Repeat("x", 40000) + "\r\n a\r\n " + strings.Repeat("y", 30000) + "\r\n z\r\nC: d\r\n\r\nx\r\n"),
		"line at 60,000":      []byte("Subject: " + strings.Repeat("x", 59000) + "\r\n " + strings.Repeat("y", 989) + "\r\n z\r\nC: d\r\n\r\nx\r\n"),
		"line at 60,001":      []byte("Subject: " + strings.Repeat("x", 59000) + "\r\n " + strings.Repeat("y", 990) + "\r\n z\r\nC: d\r\n\r\nx\r\n"),
		"name of 2,047":       []byte(strings.Repeat("n", 2047) + ": y\r\nA: b\r\n\r\nx\r\n"),
		"name of 2,048":       []byte(strings.Repeat("n", 2048) + ": y\r\nA: b\r\n\r\nx\r\n"),
		"two lines of blanks": []byte(" a\r\n\tb\r\n \r\nA: b\r\n\r\nx\r\n"),
		"from line":           []byte("from someone\r\nSubject: x\r\n\r\nx\r\n"),
		"deep From line":      []byte(">>>From someone\r\nSubject: x\r\n\r\nx\r\n"),
		"two From lines":      []byte("From someone\r\n>From other\r\nSubject: x\r\n\r\nFrom z\r\n"),
		"folded From line":    []byte("From someone\r\n folded\r\nSubject: x\r\n\r\nx\r\n"),
		"From with a NUL":     []byte("From some\x00one\r\nSubject: x\r\n\r\nx\r\n"),
		"CR at a bound":       []byte("A: b\r\n\r\n" + strings.Repeat("x", 2047) + "\ry\r\n" + strings.Repeat("x", 2048) + "\ry\r\n"),
		"dots at bounds":      []byte("A: b\r\n\r\n" + strings.Repeat("x", 2048) + ".\r\n" + strings.Repeat("x", 2047) + ".y\r\n." + strings.Repeat("x", 2047) + ".\r\n"),
		"deep boundaries":     nestedParts(300),
		"long boundary":       []byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"" + strings.Repeat("b", 3000) + "\"\r\n\r\n--" + strings.Repeat("b", 3000) + "\r\nX : y\r\n\r\nx\r\n"),
		"8 bit as 7 bit":      []byte("MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\xe9\r\n"),
		"binary":              []byte("MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n\xff\x00\xfe\r\n"),
		"5,000 fields":        []byte(strings.Repeat("a: b\r\n", 5000) + "\r\nx\r\n"),
	}
}

// nestedParts is a multipart in a multipart, and so on.
func nestedParts(depth int) []byte {
	var b strings.Builder
	b.WriteString("MIME-Version: 1.0\r\n")
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed;\r\n\tboundary=b%d\r\nBcc : x\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nx\r\n")
	for i := range depth {
		fmt.Fprintf(&b, "--b%d--\r\n", depth-1-i)
	}
	return []byte(b.String())
}
