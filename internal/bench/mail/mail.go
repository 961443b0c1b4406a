// Package mail makes messages for benchmarks: words as often as words are,
// and attachments that compress as such files do (a PDF's streams, a JPEG and
// an office document are compressed already; their base64 is not).
package mail

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
)

// Kind of an attachment.
type Kind string

// The kinds of attachments.
const (
	PDF  Kind = "pdf"
	JPEG Kind = "jpg"
	DOCX Kind = "docx"
)

// Generator makes messages, the same ones for the same seed. It is not safe
// for several goroutines at once.
type Generator struct {
	rng   *rand.Rand
	zipf  *rand.Zipf
	words [][]byte
	noise []byte
	count int
}

// New returns a generator.
func New(seed uint64) *Generator {
	g := &Generator{rng: rand.New(rand.NewPCG(seed, 7))}
	g.words = make([][]byte, 40_000)
	vowels, consonants := "aeiou", "bcdfglmnprstv"
	for i := range g.words {
		for range 1 + g.rng.IntN(4) {
			g.words[i] = append(g.words[i], consonants[g.rng.IntN(len(consonants))], vowels[g.rng.IntN(len(vowels))])
		}
	}
	g.zipf = rand.NewZipf(g.rng, 1.2, 6, uint64(len(g.words)-1)) // close to how often words of a language are
	g.noise = make([]byte, 1<<20)
	for i := range g.noise {
		g.noise[i] = byte(g.rng.Uint32())
	}
	return g
}

// Text returns a message of words alone, of n bytes or a few more.
func (g *Generator) Text(n int) []byte {
	var b bytes.Buffer
	g.header(&b, "text/plain; charset=utf-8")
	g.text(&b, n-b.Len())
	return b.Bytes()
}

// Attached returns a message with a short text and one file of n bytes, which
// base64 makes a third more.
func (g *Generator) Attached(kind Kind, n int) []byte {
	var b bytes.Buffer
	g.header(&b, `multipart/mixed; boundary="=_part"`)
	b.WriteString("--=_part\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	g.text(&b, 1500)
	fmt.Fprintf(&b, "--=_part\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"%s %d.%s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		g.word(), g.count, kind)
	writeBase64(&b, g.file(kind, n))
	b.WriteString("--=_part--\r\n")
	return b.Bytes()
}

func (g *Generator) header(b *bytes.Buffer, contentType string) {
	g.count++
	fmt.Fprintf(b, "Received: from mail.example.org (mail.example.org [192.0.2.%d])\r\n\tby mx.example.test (Postfix) with ESMTPS id %x;\r\n\tMon, 23 Nov 2026 10:%02d:%02d +0000 (UTC)\r\n",
		g.rng.IntN(250), g.rng.Uint64(), g.count/60%60, g.count%60)
	fmt.Fprintf(b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail;\r\n\th=from:to:subject:date; bh=%s;\r\n\tb=%s\r\n",
		base64.StdEncoding.EncodeToString(g.random(32)), base64.StdEncoding.EncodeToString(g.random(256)))
	fmt.Fprintf(b, "From: %s %s <%s@example.org>\r\nTo: Ana <ana@example.test>\r\nSubject: %s %s %s\r\nDate: Mon, 23 Nov 2026 10:%02d:%02d +0000\r\nMessage-ID: <%x@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: %s\r\n\r\n",
		g.word(), g.word(), g.word(), g.word(), g.word(), g.word(), g.count/60%60, g.count%60, g.rng.Uint64(), contentType)
}

func (g *Generator) word() []byte { return g.words[g.zipf.Uint64()] }

// text writes about n bytes of lines.
func (g *Generator) text(b *bytes.Buffer, n int) {
	for end, line := b.Len()+n, 0; b.Len() < end; {
		w := g.word()
		b.Write(w)
		if line += len(w) + 1; line > 70 {
			b.WriteString(".\r\n")
			line = 0
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteString("\r\n")
}

// random returns n bytes that do not compress.
func (g *Generator) random(n int) []byte {
	out := make([]byte, 0, n)
	for len(out) < n {
		at := g.rng.IntN(len(g.noise) / 2)
		out = append(out, g.noise[at:at+min(n-len(out), len(g.noise)/2)]...)
	}
	return out
}

// file makes a file of about n bytes, built as such files are.
func (g *Generator) file(kind Kind, n int) []byte {
	var b bytes.Buffer
	switch kind {
	case PDF: // objects, of which pages are deflated text and pictures
		b.WriteString("%PDF-1.7\n")
		for i := 1; b.Len() < n; i++ {
			fmt.Fprintf(&b, "%d 0 obj\n<< /Type /XObject /Filter /FlateDecode /Length 9000 >>\nstream\n", i)
			g.deflated(&b, 24_000)
			b.Write(g.random(6_000))
			b.WriteString("\nendstream\nendobj\n")
		}
	case DOCX:
		z := zip.NewWriter(&b)
		for i := 0; b.Len() < n; i++ {
			w, err := z.Create(fmt.Sprintf("word/part%d.xml", i))
			if err != nil {
				panic(err) // a buffer takes everything
			}
			var text bytes.Buffer
			for range 40 {
				text.WriteString(`<w:p><w:pPr><w:pStyle w:val="Normal"/></w:pPr><w:r><w:t xml:space="preserve">`)
				g.text(&text, 600)
				text.WriteString("</w:t></w:r></w:p>")
			}
			w.Write(text.Bytes())   //nolint:errcheck // to a buffer
			z.Flush()               //nolint:errcheck
			b.Write(g.random(2000)) // a picture in it
		}
		z.Close() //nolint:errcheck
	case JPEG:
		b.WriteString("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01")
		b.Write(g.random(n - 20))
		b.WriteString("\xff\xd9")
	}
	return b.Bytes()
}

func (g *Generator) deflated(b *bytes.Buffer, n int) {
	var text bytes.Buffer
	g.text(&text, n)
	w, err := flate.NewWriter(b, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is one of its own
	}
	w.Write(text.Bytes()) //nolint:errcheck // to a buffer
	w.Close()             //nolint:errcheck
}

func writeBase64(b *bytes.Buffer, data []byte) {
	for len(data) > 0 {
		n := min(57, len(data))
		b.WriteString(base64.StdEncoding.EncodeToString(data[:n]))
		b.WriteString("\r\n")
		data = data[n:]
	}
}
