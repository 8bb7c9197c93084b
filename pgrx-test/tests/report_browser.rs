//! How a browser shows the page of `tenancy.report_html()`: on a phone, in the dark, with everything opened.

mod policy_support;
mod report_support;

use pgrx_test::browser::{Browser, Window};
use pgrx_test::cluster::test_run_dir;
use report_support::{page, stage, texts};
use scraper::Html;

/// Runs in the page and leaves what it measured in the title.
///
/// Everything is opened first. Contrast is that of WCAG 2, for every element with text of its own.
const PROBE: &str = "<script>addEventListener('load', () => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    const inside = element => element.closest('.box') && !element.matches('.box');
    const wide = [...document.body.querySelectorAll('*')]
        .filter(element => !inside(element) && !element.closest('svg') && (element.getBoundingClientRect().right > innerWidth + 0.5
            || (!element.matches('.box') && getComputedStyle(element).overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1)));
    const parts = colour => colour.match(/[0-9.]+/g).map(Number);
    const light = colour => { const [r, g, b] = parts(colour).map(part => { const c = part / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const back = element => { const colour = getComputedStyle(element).backgroundColor; const all = parts(colour);
        return all.length < 4 || all[3] > 0 ? colour : back(element.parentElement); };
    const contrast = element => { const [a, b] = [light(getComputedStyle(element).color), light(back(element))]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
    const worded = [...document.body.querySelectorAll('*')].filter(element => !element.closest('svg, script') && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    const faint = worded.filter(element => contrast(element) < 4.5);
    document.title = JSON.stringify({ width: innerWidth, scroll: document.documentElement.scrollWidth, worded: worded.length,
        faint: faint.map(element => contrast(element).toFixed(1) + ' ' + element.outerHTML.slice(0, 80)),
        small: worded.filter(element => parseFloat(getComputedStyle(element).fontSize) < 11).map(element => element.outerHTML.slice(0, 80)),
        wide: wide.map(element => element.outerHTML.slice(0, 80)), dark: matchMedia('(prefers-color-scheme: dark)').matches,
        boxes: [...document.querySelectorAll('.box')].map(box => box.scrollWidth > box.clientWidth),
        sizes: [...document.querySelectorAll('section')].map(section => section.offsetHeight) }); });</script>";

const PHONE: u32 = 360;

/// What a browser shows badly in such a window.
fn complaints(browser: &Browser, page: &str, window: Window) -> Vec<String> {
    // The page lets no script run; one copy has to, to be measured.
    let (before, rest) = page
        .split_once("<meta http-equiv=\"Content-Security-Policy\"")
        .expect("a policy");
    let (_, after) = rest.split_once('>').expect("its end");
    let measured = format!("{before}{after}{PROBE}");
    let document = Html::parse_document(&browser.document(&measured, window).unwrap());
    let title = texts(&document, "title").remove(0);
    let seen: serde_json::Value =
        serde_json::from_str(&title).unwrap_or_else(|error| panic!("{error}: {title}"));
    let mut all: Vec<String> = ["faint", "small", "wide"]
        .iter()
        .flat_map(|kind| {
            seen[kind]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |one| format!("{kind}: {one}"))
        })
        .collect();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            all.push(what.to_owned());
        }
    };
    expect(seen["width"] == window.width, "another width");
    expect(seen["scroll"] == window.width, "the page scrolls sideways");
    expect(seen["worded"].as_i64() > Some(50), "hardly a word");
    let sizes = seen["sizes"].as_array().expect("sizes");
    expect(
        sizes.iter().all(|size| size.as_i64() > Some(40)),
        "an empty section",
    );
    if window.width == PHONE {
        expect(
            seen["boxes"][0] == true,
            "tables do not scroll in their box",
        );
    }
    let picture = browser
        .picture(
            page,
            window,
            &format!("{}-{}.png", window.width, window.dark),
        )
        .unwrap();
    let (back, words) = shades(&picture);
    if window.dark {
        expect(back < 40 && words > 150, "not dark");
    } else {
        expect(back > 215 && words < 100, "not light");
    }
    all
}

#[test]
fn a_browser_shows_it_on_a_phone_and_in_the_dark() {
    let stage = stage();
    let text = page(&stage, "");
    let folder = test_run_dir().join(format!("report-{}", stage.database.name));
    let browser = Browser::new(&folder).expect("a browser");
    for (width, height) in [(PHONE, 3600), (1280, 2400)] {
        for dark in [false, true] {
            let window = Window {
                width,
                height,
                dark,
            };
            assert_eq!(complaints(&browser, &text, window), [""; 0], "{window:?}");
        }
    }
    // And each of these would be noticed.
    for (from, to, dark) in [
        (".box { overflow-x: auto;", ".box {", false),
        (
            "white-space: pre-wrap; overflow-wrap: anywhere;",
            "white-space: pre;",
            false,
        ),
        ("minmax(min(16rem, 100%), 1fr)", "minmax(26rem, 1fr)", false),
        (
            "font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere;",
            "font: 15px/1.5 system-ui, sans-serif; white-space: nowrap;",
            false,
        ),
        ("--soft: #5b6776", "--soft: #97a3b2", false),
        ("--warn: #7d5200", "--warn: #c99a3a", false),
        ("--soft: #9dabba", "--soft: #5b6776", true),
        ("--bad: #ff9d97", "--bad: #a3231f", true),
        (
            "prefers-color-scheme: dark",
            "prefers-color-scheme: never",
            true,
        ),
        (
            "summary { color: var(--soft); font-size: .85rem",
            "summary { color: var(--soft); font-size: .6rem",
            false,
        ),
        (
            "<section id=\"findings\">",
            "<section id=\"findings\" hidden>",
            false,
        ),
    ] {
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text, "{from} is not on the page");
        let window = Window {
            width: PHONE,
            height: 3600,
            dark,
        };
        assert!(
            !complaints(&browser, &forged, window).is_empty(),
            "{to} goes unnoticed"
        );
    }
}

#[test]
fn a_script_that_got_onto_it_would_not_run() {
    let stage = stage();
    let text =
        page(&stage, "false").replace("</main>", "<script>document.title = 'ran'</script></main>");
    let folder = test_run_dir().join(format!("script-{}", stage.database.name));
    let browser = Browser::new(&folder).expect("a browser");
    let window = Window {
        width: PHONE,
        height: 800,
        dark: false,
    };
    let title = |page: &str| {
        texts(
            &Html::parse_document(&browser.document(page, window).unwrap()),
            "title",
        )
        .remove(0)
    };
    assert!(title(&text).starts_with("Tenancy of"));
    assert_eq!(
        title(&text.replace("Content-Security-Policy", "X-Policy")),
        "ran"
    );
}

/// How light the page's corner is, and what differs most from it.
fn shades(picture: &std::path::Path) -> (u8, u8) {
    let file = std::io::BufReader::new(std::fs::File::open(picture).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let step = frame.color_type.samples();
    let light = |pixel: &[u8]| {
        u8::try_from(pixel[..3].iter().map(|part| u32::from(*part)).sum::<u32>() / 3).unwrap()
    };
    let all: Vec<u8> = pixels[..frame.buffer_size()]
        .chunks(step)
        .map(light)
        .collect();
    let back = all[0];
    let far = all
        .iter()
        .copied()
        .max_by_key(|one| one.abs_diff(back))
        .unwrap();
    (back, far)
}
