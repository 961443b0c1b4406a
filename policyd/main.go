// understudy-policyd answers Postfix: the policy delegation protocol and
// socketmap lookups, from the directory in memory. See packages policy and
// socketmap for what is answered when something is down.
//
// It opens its sockets even when it has no directory yet, and then defers
// all mail; it never refuses for want of knowledge.
package main

import "understudy/internal/daemon"

func main() { daemon.Main("policyd", defaults(), run) }
