//! As much of a shell's grammar as the guide's commands use: where a command ends, and which words it has.

/// A command that may go on over further lines: it does while a quote is open or a backslash ends the line. Comes with the
/// number of lines that were taken.
pub(crate) fn whole_command(first: &str, further: &[String]) -> (String, usize) {
    let mut command = first.to_owned();
    let mut taken = 0;
    while let (true, Some(line)) = (goes_on(&command), further.get(taken)) {
        command.push('\n');
        command.push_str(line);
        taken += 1;
    }
    (command, taken)
}

fn goes_on(command: &str) -> bool {
    let mut shell = Shell::default();
    for c in command.chars() {
        shell.push(c);
    }
    shell.quote.is_some() || shell.is_escaped
}

/// The words of each simple command in a line: what pipes, `&&` and `;` part.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let mut shell = Shell::default();
    for c in line.chars() {
        shell.push(c);
    }
    shell.end_command();
    shell.commands
}

#[derive(Default)]
struct Shell {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    /// The word that is being read; an empty quoted one is a word, too.
    word: Option<String>,
    quote: Option<char>,
    /// Whether the next word is where output goes or input comes from.
    is_file: bool,
    is_escaped: bool,
    is_comment: bool,
}

impl Shell {
    fn push(&mut self, c: char) {
        if self.is_comment {
            self.is_comment = c != '\n';
            return;
        }
        if std::mem::take(&mut self.is_escaped) {
            // A line that goes on is one line.
            if c != '\n' {
                self.letter(c);
            }
            return;
        }
        match (self.quote, c) {
            (Some(quote), _) if quote == c => self.quote = None,
            (None, '\\') | (Some('"'), '\\') => self.is_escaped = true,
            (Some(_), _) => self.letter(c),
            (None, '\'' | '"') => {
                self.quote = Some(c);
                self.word.get_or_insert_default();
            }
            (None, '#') if self.word.is_none() => self.is_comment = true,
            (None, '|' | ';' | '&' | '\n') => self.end_command(),
            (None, '>' | '<') => {
                self.end_word();
                self.is_file = true;
            }
            (None, ' ' | '\t') => self.end_word(),
            (None, _) => self.letter(c),
        }
    }

    fn letter(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        // The file that a command reads or writes is none of its words.
        let Some(word) = self.word.take() else {
            return;
        };
        if !std::mem::take(&mut self.is_file) {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

#[test]
fn words_are_as_a_shell_has_them() {
    let check = |line: &str, want: &[&[&str]]| assert_eq!(commands(line), want, "{line}");
    check(
        "troika run 'a b' \"c \\\" d\" e\\ f",
        &[&["troika", "run", "a b", "c \" d", "e f"]],
    );
    check("a | b && c; d # e", &[&["a"], &["b"], &["c"], &["d"]]);
    check("a \\\n  b ''", &[&["a", "b", ""]]);
    check("a b > c d", &[&["a", "b", "d"]]);
    check("# nothing", &[]);
}

#[test]
fn a_command_goes_on_while_a_quote_is_open() {
    let further: Vec<_> = ["b'", "c"].map(str::to_owned).into();
    assert_eq!(whole_command("a '", &further), ("a '\nb'".to_owned(), 1));
    assert_eq!(
        whole_command("a \\", &further),
        ("a \\\nb'\nc".to_owned(), 2)
    );
    assert_eq!(
        whole_command("a # it's", &further),
        ("a # it's".to_owned(), 0)
    );
}
