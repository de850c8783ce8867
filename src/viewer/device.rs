//! What a `User-Agent` says of the device.

use std::cell::RefCell;

use http::HeaderValue;

use super::fields::ViewerField;

/// The kinds of a device, of which several can hold. A client without a `User-Agent`, or with one that nobody knows, counts as a
/// desktop, as it does at CloudFront; so do crawlers that do not say that they are phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) android: bool,
    pub(super) desktop: bool,
    pub(super) ios: bool,
    pub(super) mobile: bool,
    pub(super) smart_tv: bool,
    pub(super) tablet: bool,
}

/// What a word of a `User-Agent` hints at, as bits.
type Hints = u16;

const ANDROID: Hints = 1;
const APPLE: Hints = 1 << 1;
/// A browser, as all of them say.
const BROWSER: Hints = 1 << 2;
const MOBILE: Hints = 1 << 3;
/// Android without a browser, which does not say whether it is a phone.
const RUNTIME: Hints = 1 << 4;
const TABLET: Hints = 1 << 5;
const TV: Hints = 1 << 6;
const WINDOWS_PHONE: Hints = 1 << 7;

/// More bytes of a `User-Agent` are not looked at, so that a request costs no more than this.
const LONGEST: usize = 512;

impl Device {
    pub(super) fn of(user_agent: Option<&HeaderValue>) -> Self {
        let text = user_agent.map_or(&b""[..], HeaderValue::as_bytes);
        recent(&text[..text.len().min(LONGEST)])
    }

    fn by_words(text: &[u8]) -> Self {
        let hints = hints(text);
        let has = |wanted: Hints| hints & wanted != 0;
        // Windows phones name the others, to get their pages.
        let windows_phone = has(WINDOWS_PHONE);
        let android = has(ANDROID) && !windows_phone;
        let ios = has(APPLE) && !windows_phone;
        let smart_tv = has(TV);
        // A browser on an Android phone says `Mobile`, and one on a tablet does not.
        let android_tablet = android && has(BROWSER) && !has(MOBILE | RUNTIME);
        let tablet = !smart_tv && !windows_phone && (has(TABLET) || android_tablet);
        let mobile = !smart_tv && (tablet || android || ios || windows_phone || has(MOBILE));
        Self { android, desktop: !(mobile || smart_tv), ios, mobile, smart_tv, tablet }
    }

    /// Each of the fields, with its value.
    pub(super) fn fields(self) -> [(ViewerField, bool); 6] {
        [
            (ViewerField::IsAndroid, self.android),
            (ViewerField::IsDesktop, self.desktop),
            (ViewerField::IsIos, self.ios),
            (ViewerField::IsMobile, self.mobile),
            (ViewerField::IsSmartTv, self.smart_tv),
            (ViewerField::IsTablet, self.tablet),
        ]
    }
}

/// Devices by `User-Agent`, for the few that many clients share: takes 200 instructions, where a usual text takes 2,500.
type Recent = [Option<(Box<[u8]>, Device)>; 64];

std::thread_local! {
    static RECENT: RefCell<Recent> = const { RefCell::new([const { None }; 64]) };
}

/// [`Device::by_words`], and remembers it.
fn recent(text: &[u8]) -> Device {
    // A client that chooses a place takes it from one other text.
    let place = text.chunks(8).fold(0u64, |sum, chunk| {
        let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        (sum.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
    });
    let found = RECENT.try_with(|recent| {
        let slot = &mut recent.try_borrow_mut().ok()?[(place >> 58) as usize];
        match slot {
            Some((known, device)) if **known == *text => Some(*device),
            _ => {
                let device = Device::by_words(text);
                *slot = Some((text.into(), device));
                Some(device)
            }
        }
    });
    found.ok().flatten().unwrap_or_else(|| Device::by_words(text))
}

/// What all words together hint at. A word has letters, digits, `-` and `_`.
fn hints(text: &[u8]) -> Hints {
    let mut hints = 0;
    let mut start = None;
    for (index, byte) in text.iter().enumerate() {
        match (start, IS_OF_WORD[usize::from(*byte)]) {
            (None, true) => start = Some(index),
            (Some(begin), false) => {
                hints |= hints_of(&text[begin..index], &text[index..]);
                start = None;
            }
            _ => {}
        }
    }
    hints | start.map_or(0, |begin| hints_of(&text[begin..], b""))
}

/// A table, because every byte is looked at: 1,300 instructions less for a usual `User-Agent`.
static IS_OF_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        byte += 1;
    }
    table
};

/// How a word matches.
#[derive(Clone, Copy)]
enum How {
    Begins,
    Is,
}

use How::{Begins, Is};

/// In lower case, by the first letter.
fn table(first: u8) -> &'static [(How, &'static [u8], Hints)] {
    match first {
        b'a' => &[(Begins, b"android", ANDROID), (Begins, b"appletv", TV)],
        b'b' => &[(Begins, b"blackberry", MOBILE), (Is, b"bb10", MOBILE), (Is, b"bravia", TV)],
        b'c' => &[(Is, b"crkey", TV)],
        b'd' => &[(Is, b"dalvik", RUNTIME)],
        b'g' => &[(Begins, b"gt-p", TABLET)],
        b'h' => &[(Is, b"hpwos", TABLET)],
        b'i' => &[
            (Begins, b"iphone", APPLE | MOBILE),
            (Begins, b"ipad", APPLE | TABLET),
            (Begins, b"ipod", APPLE | MOBILE),
            (Is, b"iemobile", MOBILE),
        ],
        b'k' => &[(Is, b"kindle", TABLET)],
        b'l' => &[(Is, b"lumia", MOBILE)],
        b'm' => &[
            (Is, b"mozilla", BROWSER),
            (Is, b"mobile", MOBILE),
            (Is, b"mobi", MOBILE),
            (Is, b"mini", MOBILE),
            (Begins, b"midp", MOBILE),
            (Begins, b"mediapad", TABLET),
            (Begins, b"mibox", TV),
        ],
        b'n' => &[(Begins, b"nokia", MOBILE), (Is, b"netcast", TV)],
        b'o' => &[(Is, b"okhttp", RUNTIME)],
        b'p' => &[(Is, b"playbook", TABLET)],
        b'r' => &[(Is, b"roku", TV)],
        b's' => &[
            (Begins, b"sm-t", TABLET),
            (Begins, b"sm-x", TABLET),
            (Begins, b"smarttv", TV),
            (Begins, b"smart-tv", TV),
            (Begins, b"symbian", MOBILE),
        ],
        b't' => &[(Begins, b"tb-", TABLET), (Is, b"touchpad", TABLET), (Is, b"tvos", TV)],
        b'v' => &[(Is, b"vidaa", TV), (Is, b"viera", TV)],
        b'x' => &[(Is, b"xoom", TABLET)],
        _ => &[],
    }
}

fn hints_of(word: &[u8], after: &[u8]) -> Hints {
    // Most are numbers, and one letter says nothing.
    if word.len() < 2 || word[0].is_ascii_digit() {
        return 0;
    }
    // `HbbTV`, `GoogleTV`, `Android TV`.
    if let [.., b't' | b'T', b'v' | b'V'] = word {
        return TV;
    }
    match word {
        // `Windows Phone 10.0`.
        [b'W', rest @ ..] if rest == b"indows" => {
            let is_phone = after.strip_prefix(b" Phone").is_some_and(|rest| !rest.starts_with(b"s"));
            return if is_phone { WINDOWS_PHONE | MOBILE } else { 0 };
        }
        // `Tablet PC 2.0` says that a desktop has drivers for a pen.
        [b'T' | b't', rest @ ..] if rest.eq_ignore_ascii_case(b"ablet") => {
            return if after.starts_with(b" PC") { 0 } else { TABLET };
        }
        // The models of Fire TV and of Fire tablets.
        [b'A', b'F', b'T', model @ ..] if is_model(model) => return TV,
        [b'K', b'F', model @ ..] if model.len() >= 2 && is_model(model) => return TABLET,
        _ => {}
    }
    let first = word.first().map_or(0, u8::to_ascii_lowercase);
    let matches = |(how, name, _): &&(How, &[u8], Hints)| match how {
        Begins => word.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name)),
        Is => word.eq_ignore_ascii_case(name),
    };
    table(first).iter().find(matches).map_or(0, |(.., hints)| *hints)
}

fn is_model(model: &[u8]) -> bool {
    !model.is_empty() && model.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds that hold, as letters: Android, Desktop, iOS, Mobile, smart tV, Tablet.
    fn kinds(user_agent: &str) -> String {
        let value = HeaderValue::from_bytes(user_agent.as_bytes()).expect("a value");
        let device = Device::of(Some(&value));
        let letters = ['A', 'D', 'I', 'M', 'V', 'T'];
        device
            .fields()
            .iter()
            .zip(letters)
            .filter(|((_, holds), _)| *holds)
            .map(|(_, letter)| letter)
            .collect()
    }

    #[track_caller]
    fn check(expected: &str, user_agents: &[&str]) {
        for user_agent in user_agents {
            assert_eq!(kinds(user_agent), expected, "{user_agent}");
        }
    }

    #[test]
    fn cf5_phones_are_mobile() {
        check(
            "AM",
            &[
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
                "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
                "Mozilla/5.0 (Linux; Android 6.0; Nexus 5 Build/MRA58N) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/77.0.3865.90 Mobile Safari/537.36",
                "Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0",
                "Mozilla/5.0 (Linux; Android 13; Pixel 7 Build/TQ3A.230805.001; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/115.0 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/420.0;]",
                "Mozilla/5.0 (Linux; U; Android 2.3.6; de-de; GT-S5360 Build/GINGERBREAD) AppleWebKit/533.1 (KHTML, like Gecko) Version/4.0 Mobile Safari/533.1",
                "Opera/9.80 (Android; Opera Mini/36.2/119.132; U; en) Presto/2.12.423 Version/12.16",
                // A program on Android says nothing of its screen; CloudFront counts it as a phone.
                "Dalvik/2.1.0 (Linux; U; Android 6.0.1; Nexus 5 Build/M4B30Z)",
                "okhttp/4.12.0 (Android 14)",
                "MyApp/3.1 (Android 12)",
            ],
        );
        check(
            "IM",
            &[
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0.6478.35 Mobile/15E148 Safari/604.1",
                "Mozilla/5.0 (iPod touch; CPU iPhone OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
                "MyApp/1 CFNetwork/1474 Darwin/23.0.0 (iPhone; iOS 17.0)",
            ],
        );
        check(
            "M",
            &[
                "Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/52.0 Mobile Safari/537.36 Edge/15.15063",
                "Mozilla/5.0 (Mobile; Windows Phone 8.1; Android 4.0; ARM; Trident/7.0; Touch; rv:11.0; IEMobile/11.0; NOKIA; Lumia 635) like iPhone OS 7_0_3 Mac OS X AppleWebKit/537 (KHTML, like Gecko) Mobile Safari/537",
                "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.10+ (KHTML, like Gecko) Version/10.0.9.2372 Mobile Safari/537.10+",
                "BlackBerry8520/5.0.0.681 Profile/MIDP-2.1 Configuration/CLDC-1.1 VendorID/600",
                "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10",
                "Nokia6100/1.0 (04.01) Profile/MIDP-1.0 Configuration/CLDC-1.0",
                "Mozilla/5.0 (SymbianOS/9.4; Series60/5.0 NokiaN97-1/20.0.019) AppleWebKit/525 (KHTML, like Gecko)",
                "Mozilla/5.0 (Mobile; Nokia 8110 4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5",
            ],
        );
    }

    #[test]
    fn cf5_tablets_are_mobile_too() {
        check(
            "IMT",
            &[
                "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
                "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0 Mobile/15E148 Safari/604.1",
            ],
        );
        check(
            "AMT",
            &[
                // Android without `Mobile`.
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0 Safari/537.36",
                "Mozilla/5.0 (Android 14; Tablet; rv:127.0) Gecko/127.0 Firefox/127.0",
                "Mozilla/5.0 (Linux; Android 9; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/102.2.1 like Chrome/102.0 Safari/537.36",
                "Mozilla/5.0 (Linux; U; Android 2.2; en-gb; GT-P1000 Build/FROYO) AppleWebKit/533.1 (KHTML, like Gecko) Version/4.0 Mobile Safari/533.1",
                "Dalvik/2.1.0 (Linux; U; Android 9; SM-T595 Build/PPR1.180610.011)",
                "Dalvik/2.1.0 (Linux; U; Android 10; Lenovo TB-X606F Build/QP1A)",
            ],
        );
        check(
            "MT",
            &[
                "Mozilla/5.0 (PlayBook; U; RIM Tablet OS 2.1.0; en-US) AppleWebKit/536.2+ (KHTML, like Gecko) Version/7.2.1.0 Safari/536.2+",
                "Mozilla/5.0 (hp-tablet; Linux; hpwOS/3.0.5; U; en-US) AppleWebKit/534.6 (KHTML, like Gecko) wOSBrowser/234.83 Safari/534.6 TouchPad/1.0",
                "Mozilla/5.0 (Linux; U; en-US) AppleWebKit/528.5+ (KHTML, like Gecko, Safari/528.5+) Version/4.0 Kindle/3.0 (screen 600x800; rotate)",
            ],
        );
    }

    #[test]
    fn cf5_televisions_are_neither_mobile_nor_desktops() {
        check(
            "V",
            &[
                "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36",
                "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
                "Mozilla/5.0 (Linux; NetCast; U) AppleWebKit/537.31 (KHTML, like Gecko) Chrome/38.0 Safari/537.31 SmartTV/7.0",
                "HbbTV/1.5.1 (+DRM; Vendor; Model; 1.0;) Presto",
                "Roku/DVP-12.5 (12.5.0.4178-88)",
                "Mozilla/5.0 (X11; Linux armv7l) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0 Safari/537.36 CrKey/1.56.500000",
                "AppleTV11,1/11.1",
                "AppleCoreMedia/1.0.0.18K57 (Apple TV; U; CPU OS 14_2 like Mac OS X; en_us)",
                "Mozilla/5.0 (Linux; U; VIDAA/6.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/88.0 Safari/537.36",
            ],
        );
        check(
            "AV",
            &[
                "Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7273; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/70.0 Mobile Safari/537.36",
                "Mozilla/5.0 (Linux; Android 10; BRAVIA 4K VH2 Build/QTG3.200305.006) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/88.0 Safari/537.36",
                "Mozilla/5.0 (Linux; Android 11; SHIELD Android TV Build/RQ1A) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0 Safari/537.36",
                "Dalvik/2.1.0 (Linux; U; Android 9; MIBOX4 Build/PI)",
            ],
        );
    }

    #[test]
    fn cf5_everything_else_is_a_desktop() {
        check(
            "D",
            &[
                "",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36 Edg/126.0",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
                // Safari on an iPad of today.
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
                "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; SLCC2; Media Center PC 6.0; Tablet PC 2.0)",
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
                "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
                "curl/8.7.1",
                "Wget/1.21.4",
                "PostmanRuntime/7.39.0",
                "python-requests/2.32.3",
                "Amazon CloudFront",
                "Custom User Agent String",
                "after KFC, mobility and the tvs",
                "Mozilla/5.0 (PlayStation 5 3.20) AppleWebKit/605.1.15 (KHTML, like Gecko)",
            ],
        );
        assert!(Device::of(None).desktop);
        // Googlebot for phones says that it is one.
        check(
            "AM",
            &[
                "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ],
        );
    }

    #[test]
    fn devices_that_are_remembered_are_the_same() {
        let texts: Vec<_> = (0..1_000).map(|number| format!("{number} (iPhone) {number}")).collect();
        for _ in 0..2 {
            for text in &texts {
                assert_eq!(kinds(text), "IM");
                assert_eq!(kinds(&text.replace("iPhone", "iPhane")), "D");
            }
        }
    }

    #[test]
    fn cf5_a_long_user_agent_is_read_up_to_a_bound() {
        let within = format!("{} iPhone", "x".repeat(LONGEST - 7));
        let beyond = format!("{} iPhone", "x".repeat(LONGEST));
        assert_eq!((kinds(&within).as_str(), kinds(&beyond).as_str()), ("IM", "D"));
        assert_eq!(kinds("\u{e9}\u{4e2d} iPad \u{ff}"), "IMT");
    }
}
