package stack

// variables are what a scratch stack sets differently from the roles'
// defaults: paths, ports, secrets, short times.
func (s *Stack) variables() (Variables, error) {
	l := &s.layout
	master, err := l.secret("portal-master")
	if err != nil {
		return nil, err
	}
	apiKey, err := l.secret("doveadm-api-key")
	if err != nil {
		return nil, err
	}
	vars := Variables{
		"postfix_hostname":              "mx.understudy.test",
		"postfix_config_directory":      l.path("postfix", "etc"),
		"postfix_queue_directory":       l.path("postfix", "queue"),
		"postfix_data_directory":        l.path("postfix", "data"),
		"postfix_daemon_directory":      l.PostfixDaemons,
		"postfix_maillog_file":          s.logFile(Postfix),
		"postfix_maillog_file_prefixes": l.Dir,
		"postfix_inet_interfaces":       "127.0.0.1",
		"postfix_inet_protocols":        "ipv4",
		"postfix_chroot":                "n",
		"postfix_smtp_service":          l.address("smtp"),
		"postfix_submission_service":    l.address("submission"),
		"postfix_submissions_service":   "",
		"postfix_reentry_port":          l.Ports["reentry"],
		"postfix_reentry_quiet_port":    l.Ports["reentry-quiet"],
		"postfix_tls_cert_file":         l.path("etc", "tls", "cert.pem"),
		"postfix_tls_key_file":          l.path("etc", "tls", "key.pem"),
		"postfix_tls_ca_file":           "",
		"postfix_relayhost":             "[127.0.0.1]:" + l.address("internet")[len("127.0.0.1:"):],
		"postfix_knows_tls_required":    atLeast(l.PostfixVersion, "3.10"),
		"postfix_peername_lookup":       false,
		// Every client is 127.0.0.1 here.
		"postfix_client_connection_count_limit": 0,

		"dovecot_version":                "2.3",
		"dovecot_config_directory":       l.path("dovecot", "etc"),
		"dovecot_instance_name":          "understudy-stack",
		"dovecot_base_directory":         l.path("dovecot", "run"),
		"dovecot_state_directory":        l.path("dovecot", "state"),
		"dovecot_log_path":               s.logFile(Dovecot),
		"dovecot_hostname":               "mx.understudy.test",
		"dovecot_postmaster_address":     "postmaster@" + Domain,
		"dovecot_listen":                 "127.0.0.1",
		"dovecot_imap_port":              l.Ports["imap"],
		"dovecot_imaps_port":             l.Ports["imaps"],
		"dovecot_pop3_port":              l.Ports["pop3"],
		"dovecot_pop3s_port":             0,
		"dovecot_doveadm_port":           l.Ports["doveadm"],
		"dovecot_tls_cert_file":          l.path("etc", "tls", "cert.pem"),
		"dovecot_tls_key_file":           l.path("etc", "tls", "key.pem"),
		"dovecot_allow_cleartext":        true,
		"dovecot_mail_uid":               mailOwner.uid,
		"dovecot_mail_gid":               mailOwner.gid,
		"dovecot_master_password_sha256": hexSHA256(master),
		"dovecot_doveadm_api_key":        apiKey,

		"understudy_config_directory":            l.path("etc"),
		"understudy_secrets_directory":           l.path("etc", "secrets"),
		"understudy_state_directory":             l.path("state"),
		"understudy_archive_directory":           l.path("archive"),
		"understudy_mail_directory":              l.path("dovecot", "mail"),
		"understudy_reentry_users":               []any{"postfix"},
		"understudy_helo_name":                   "mx.understudy.test",
		"understudy_database_address":            l.address("postgres"),
		"understudy_database_sslmode":            "disable",
		"understudy_auth_lua_socket":             l.path("state", "lua", "socket"),
		"understudy_policyd_control":             l.path("state", "control", "policyd"),
		"understudy_milter_metrics_listen":       l.address("milter-metrics"),
		"understudy_policyd_metrics_listen":      l.address("policyd-metrics"),
		"understudy_dovecot_auth_metrics_listen": l.address("dovecot-auth-metrics"),
		"understudy_worker_metrics_listen":       l.address("worker-metrics"),
		"understudy_admin_metrics_listen":        l.address("admin-metrics"),
		"understudy_admin_listen":                l.address("portal"),
		"understudy_public_url":                  "http://" + l.address("portal"),
		"understudy_imap_address":                l.address("imap"),
		"understudy_submission_address":          l.address("submission"),
	}
	if atLeast(l.DovecotVersion, "2.4") {
		vars["dovecot_version"] = "2.4"
	}
	for k, v := range shortTimes {
		vars[k] = v
	}
	return vars, nil
}

// shortTimes make an outage quick to watch.
var shortTimes = Variables{
	"postfix_primary_connect_timeout":      "5s",
	"postfix_primary_helo_timeout":         "10s",
	"postfix_primary_mail_timeout":         "10s",
	"postfix_primary_rcpt_timeout":         "10s",
	"postfix_primary_data_init_timeout":    "10s",
	"postfix_primary_data_xfer_timeout":    "30s",
	"postfix_primary_data_done_timeout":    "30s",
	"postfix_primary_quit_timeout":         "5s",
	"postfix_minimal_backoff_time":         "10s",
	"postfix_maximal_backoff_time":         "30s",
	"postfix_queue_run_delay":              "5s",
	"postfix_verify_negative_refresh_time": "10s",
	"postfix_verify_negative_expire_time":  "1m",

	"understudy_probe_interval":         "2s",
	"understudy_probe_fast_interval":    "500ms",
	"understudy_probe_timeout":          "2s",
	"understudy_detector_recover_after": "5s",
	"understudy_detector_recover_max":   "1m",
	"understudy_drain_sweep_interval":   "5s",
	"understudy_drain_timeout":          "1m",
}
