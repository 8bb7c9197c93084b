//! How the page looks.
//!
//! Owns the style sheet. Wide things scroll inside their own box, so that the page itself never does;
//! names keep their own writing direction, so that none can turn its neighbours around.

/// The only style sheet.
pub const SHEET: &str = "
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1c2530; --soft: #5b6776; --line: #d9dee5;
  --good: #14733f; --good-back: #ddf3e5; --bad: #a3231f; --bad-back: #fbe3e1; --warn: #7d5200; --warn-back: #fdf0d0;
  --calm: #2c5a9e; --calm-back: #e1ebfa; --bar: #b7c7de; --bar-new: #2c5a9e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #10151b; --card: #19212a; --text: #e4e9ef; --soft: #9dabba; --line: #2f3a46;
    --good: #7fdba4; --good-back: #143524; --bad: #ff9d97; --bad-back: #431a19; --warn: #f3c766; --warn-back: #3a2c0c;
    --calm: #9cc3ff; --calm-back: #17304f; --bar: #3d5472; --bar-new: #9cc3ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: .5rem 0 0; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
p { margin: .25rem 0 .75rem; }
.soft { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: 1rem 0; min-width: 0; }
.sums { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.sums > div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem .9rem; }
.sums b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.box { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid var(--line); unicode-bidi: isolate; overflow-wrap: normal; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
tr:last-child > * { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { min-width: 8rem; max-width: 22rem; overflow-wrap: anywhere; font-weight: 600; }
td.wide { min-width: 14rem; overflow-wrap: anywhere; }
td.when { white-space: nowrap; }
ul { margin: 0; padding-left: 1.1rem; }
code, pre { font: .85em/1.45 ui-monospace, monospace; unicode-bidi: isolate; }
pre { margin: .3rem 0 0; padding: .6rem; background: var(--page); border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow-y: auto; }
.tag { display: inline-block; padding: 0 .5rem; border-radius: 99px; font-size: .82rem; font-weight: 600; white-space: nowrap; }
.good { color: var(--good); background: var(--good-back); } .bad { color: var(--bad); background: var(--bad-back); }
.warn { color: var(--warn); background: var(--warn-back); } .calm { color: var(--calm); background: var(--calm-back); }
.entry { border-top: 1px solid var(--line); padding: .75rem 0; }
.entry:first-of-type { border-top: 0; }
.entry > p { margin: .25rem 0; }
.entry dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .35rem .9rem; margin: .5rem 0 0; }
.entry dt { color: var(--soft); font-size: .8rem; } .entry dd { margin: 0; min-width: 0; unicode-bidi: isolate; }
.board { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); gap: .25rem 1.5rem; }
.part { border-top: 1px solid var(--line); padding: .6rem 0; min-width: 0; }
.part p { margin: .25rem 0; }
summary { color: var(--soft); font-size: .85rem; cursor: pointer; }
svg { display: block; width: 100%; height: 9rem; }
svg .all { fill: var(--bar); } svg .new { fill: var(--bar-new); }
.axis { display: flex; justify-content: space-between; gap: 1rem; color: var(--soft); font-size: .82rem; }
";
