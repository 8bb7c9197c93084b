//! What the source of a function consists of, as SQL and PL/pgSQL cut it.
//!
//! Pure. Comments are left out. Must never take what stands in quotes for words.

/// A piece of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A keyword or a name, in lower case.
    Word(String),
    /// A name in double quotes, without them.
    Name(String),
    /// A string, without its quotes.
    Text(String),
    /// A number.
    Number(String),
    /// `$1`.
    Parameter(String),
    /// An operator, such as `||`.
    Operator(String),
    /// A bracket, a comma, a point and the like.
    Sign(char),
}

impl Token {
    /// Whether it is that word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }
}

/// Cuts a source. What is left open at its end is cut there.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut rest = Rest {
        characters: source.chars().collect(),
        position: 0,
    };
    let mut found = Vec::new();
    while let Some(token) = rest.cut() {
        found.extend(token);
    }
    found
}

struct Rest {
    characters: Vec<char>,
    position: usize,
}

impl Rest {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.position + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(ahead, character)| self.peek(ahead) == Some(character))
    }

    /// What comes next: none of it is a token where it is space or a comment.
    fn cut(&mut self) -> Option<Option<Token>> {
        let character = self.peek(0)?;
        Some(match character {
            _ if character.is_whitespace() => {
                self.position += 1;
                None
            }
            _ if self.starts_with("--") => {
                self.take_while(|c| c != '\n');
                None
            }
            _ if self.starts_with("/*") => {
                self.skip_comment();
                None
            }
            '\'' => Some(Token::Text(self.quoted('\'', false))),
            '"' => Some(Token::Name(self.quoted('"', false))),
            '$' => Some(self.after_dollar()),
            _ if character.is_ascii_digit() => {
                Some(Token::Number(self.take_while(|c| {
                    c.is_ascii_alphanumeric() || c == '.' || c == '_'
                })))
            }
            _ if starts_name(character) => Some(self.word()),
            _ if is_of_operator(character) => Some(Token::Operator(self.operator())),
            _ => {
                self.position += 1;
                Some(Token::Sign(character))
            }
        })
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let start = self.position;
        while self.peek(0).is_some_and(&belongs) {
            self.position += 1;
        }
        self.characters[start..self.position].iter().collect()
    }

    fn skip_comment(&mut self) {
        let mut open = 0_usize;
        while self.position < self.characters.len() {
            let step = match () {
                () if self.starts_with("/*") => {
                    open += 1;
                    2
                }
                () if self.starts_with("*/") => {
                    open -= 1;
                    2
                }
                () => 1,
            };
            self.position += step;
            if open == 0 {
                return;
            }
        }
    }

    /// What stands in quotes, a doubled one being one of it.
    fn quoted(&mut self, quote: char, escapes: bool) -> String {
        let mut text = String::new();
        self.position += 1;
        while let Some(character) = self.peek(0) {
            self.position += 1;
            match character {
                '\\' if escapes => {
                    text.extend(self.peek(0));
                    self.position += 1;
                }
                _ if character == quote && self.peek(0) == Some(quote) => {
                    text.push(quote);
                    self.position += 1;
                }
                _ if character == quote => break,
                _ => text.push(character),
            }
        }
        text
    }

    fn word(&mut self) -> Token {
        let word = self.take_while(|c| is_of_name(c) || c == '$');
        if self.peek(0) == Some('\'') && word.eq_ignore_ascii_case("e") {
            return Token::Text(self.quoted('\'', true));
        }
        Token::Word(word.to_ascii_lowercase())
    }

    /// A parameter, or a string between two tags.
    fn after_dollar(&mut self) -> Token {
        let start = self.position;
        self.position += 1;
        let tag = self.take_while(is_of_name);
        if tag.starts_with(|c: char| c.is_ascii_digit()) {
            return Token::Parameter(tag);
        }
        if self.peek(0) != Some('$') {
            self.position = start + 1;
            return Token::Sign('$');
        }
        self.position += 1;
        let (close, from) = (format!("${tag}$"), self.position);
        while self.position < self.characters.len() && !self.starts_with(&close) {
            self.position += 1;
        }
        let text = self.characters[from..self.position].iter().collect();
        self.position = (self.position + close.chars().count()).min(self.characters.len());
        Token::Text(text)
    }

    fn operator(&mut self) -> String {
        let mut text = String::new();
        while let Some(character) = self.peek(0).filter(|c| is_of_operator(*c)) {
            if self.starts_with("--") || self.starts_with("/*") {
                break;
            }
            text.push(character);
            self.position += 1;
        }
        text
    }
}

fn starts_name(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
}

fn is_of_name(character: char) -> bool {
    starts_name(character) || character.is_ascii_digit()
}

fn is_of_operator(character: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each in a notation of its own.
    fn cut(source: &str) -> Vec<String> {
        tokens(source)
            .into_iter()
            .map(|token| match token {
                Token::Word(word) => word,
                Token::Name(name) => format!("<{name}>"),
                Token::Text(text) => format!("'{text}'"),
                Token::Number(number) => format!("#{number}"),
                Token::Parameter(number) => format!("${number}"),
                Token::Operator(operator) => operator,
                Token::Sign(sign) => sign.to_string(),
            })
            .collect()
    }

    #[test]
    fn words_names_and_strings() {
        for (source, expected) in [
            (
                "SELECT $1=\"T\"\"x\"::uuid;",
                "select $1 = <T\"x> : : uuid ;",
            ),
            ("a -- b 'c\n/* d /* e */ ' */ f", "a f"),
            ("'it''s -- x' || E'a\\'b'", "'it's -- x' || 'a'b'"),
            ("$$a 'b' $1$$ $q$ $$ $q$ $1", "'a 'b' $1' ' $$ ' $1"),
            ("1.5--x\n+2", "#1.5 + #2"),
            ("x1 := y$z; f(a)", "x1 : = y$z ; f ( a )"),
            ("Täble é", "täble é"),
        ] {
            assert_eq!(cut(source).join(" "), expected, "{source}");
        }
    }

    #[test]
    fn what_is_left_open_ends_with_the_source() {
        for source in [
            "'a",
            "\"a",
            "$x$ a",
            "$x$ a$x",
            "/* a /* b */",
            "E'\\",
            "$",
            "$x",
            "-",
            "",
        ] {
            assert!(tokens(source).len() <= 2, "{source}");
        }
    }
}
