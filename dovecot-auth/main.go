// Command understudy-dovecot-auth tells Dovecot and Postfix who may log in,
// and Dovecot where mailboxes live.
//
// It serves two sockets: one for the Lua passdb and userdb inside Dovecot
// (package luaserver), one for the SASL client of Postfix's smtpd (package
// saslserver). Both answer from the directory in memory (package account).
//
// When PostgreSQL is down all goes on from memory, or after a restart from
// the saved directory; only changes wait. When the directory was never
// loaded every answer is a temporary failure. When this service is down,
// Dovecot says [UNAVAILABLE] and LMTP 451, and Postfix 454.
package main

import "understudy/internal/daemon"

func main() { daemon.Main("dovecot-auth", defaultConfig(), run) }
