//! Parameters by which advertisers and mailers follow a click, and which no page reads.

/// The names of query parameters that [`QueryRules::ignore_trackers`](super::QueryRules::ignore_trackers) leaves out: they say
/// how somebody has come to a page, for scripts in the browser and for log files, and change nothing on it.
///
/// `ref`, `source`, `cid` and the like are not among them, since some pages read them.
pub static TRACKERS: &[&str] = &[
    "utm_*",
    // Google: Analytics, Ads, Merchant Center.
    "_ga",
    "_gl",
    "dclid",
    "gad_campaignid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "srsltid",
    "wbraid",
    // Other networks: Meta, Microsoft, X, TikTok, LinkedIn, Pinterest, Reddit, Snapchat, Yandex, Openstat, Impact.
    "fbclid",
    "igsh",
    "igshid",
    "mibextid",
    "msclkid",
    "twclid",
    "ttclid",
    "li_fat_id",
    "epik",
    "rdt_cid",
    "ScCid",
    "yclid",
    "ysclid",
    "_openstat",
    "irclickid",
    // Mailers and marketing suites: Mailchimp, HubSpot, Marketo, Klaviyo, Omeda, Vero, MailerLite, Dotdigital, Branch.
    "mc_cid",
    "mc_eid",
    "__hsfp",
    "__hssc",
    "__hstc",
    "_hsenc",
    "_hsmi",
    "hsa_*",
    "hsCtaTracking",
    "mkt_tok",
    "_ke",
    "_kx",
    "oly_anon_id",
    "oly_enc_id",
    "vero_conv",
    "vero_id",
    "ml_subscriber",
    "ml_subscriber_hash",
    "dm_i",
    "_branch_match_id",
    // Analytics that a site runs itself: Matomo, and Piwik before it.
    "mtm_*",
    "pk_*",
];
