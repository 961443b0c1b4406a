package mime

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestNames: names of files in any charset, wherever it is stated.
func TestNames(t *testing.T) {
	t.Parallel()
	for disposition, want := range map[string]string{
		`filename*=iso-8859-1''Jahres%FCbersicht.pdf`:                                              "Jahresübersicht.pdf",
		`filename*=iso-8859-1'de'M%E4rz%202026.pdf; size=5`:                                        "März 2026.pdf",
		"filename*0*=iso-8859-1''Jahres%FC;\r\n filename*1*=bersicht;\r\n filename*2=\" %41.pdf\"": "Jahresübersicht %41.pdf",
		"FILENAME*1=%B0%96%7B.txt; filename*0*=shift_jis''%93%FA%96%7B":                            "日本%B0%96%7B.txt",
		"filename*0*=gb2312''%B7;\r\n filename*1*=%A2%C6%B1.pdf":                                   "发票.pdf",
		`filename=fapiao.pdf; filename*=gb2312''%B7%A2%C6%B1.pdf`:                                  "发票.pdf",
		`filename*=koi8-r''%F0%D2%C9%D7%C5%D4%3B%22.pdf`:                                           `Привет;".pdf`,
		`filename*=utf-8''%C3%A9t%C3%A9.pdf`:                                                       "été.pdf",
		`filename*=x-none''a%FC.pdf; filename=a.pdf`:                                               "a.pdf",
		"filename=\"Bescheid gr\xf6\xdfer.pdf\"":                                                   "Bescheid größer.pdf",
		`filename*=iso-8859-1`:                                                                     "application/pdf",
	} {
		d, err := NewDecoder().Decode(strings.NewReader(fmt.Sprintf(strings.Replace(multipart, `filename="=?utf-8?Q?relat=C3=B3rio.pdf?="`, "%s", 1), "\r\nx", disposition, "AA==")))
		want := []string{want}
		if want[0] == "application/pdf" {
			want[0] = "a.pdf" // of the type
		}
		if err != nil || !slices.Equal(d.Attachments, want) {
			t.Errorf("%s: %q, %v, want %q", disposition, d.Attachments, err, want)
		}
	}
	if got := namesUTF8(strings.Repeat("; name*=koi8-r''%F0", 100_000)); len(got) != 1_900_000 {
		t.Errorf("a long field is changed: %d bytes", len(got))
	}
}
