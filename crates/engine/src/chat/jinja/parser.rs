//! Tokens to the syntax tree: the expressions. Statements are in [`super::statements`].
//!
//! Precedence from loose to tight: `x if y else z`, `or`, `and`, `not`, comparisons, `+ -`, `~`, `* / // %`, `**`,
//! sign, then what stands behind an operand: `.x`, `[x]`, `(x)`, `|filter`, `is test`.

use super::ast::{Args, Call, Comparison, Expr, Operator, Postfix, Target};
use super::error::{Error, Fault, Limit};
use super::lexer::{Located, Token};

pub(super) struct Parser {
    tokens: Vec<Located>,
    at: usize,
    depth: usize,
    depth_max: usize,
    /// For each macro around here: whether `varargs` and `kwargs` were named.
    pub(super) macros: Vec<(bool, bool)>,
    pub(super) loops: usize,
}

type Result<T> = std::result::Result<T, Error>;

impl Parser {
    pub(super) fn new(tokens: Vec<Located>, depth_max: usize) -> Self {
        Self {
            tokens,
            at: 0,
            depth: 0,
            depth_max,
            macros: Vec::new(),
            loops: 0,
        }
    }

    // The stream of tokens. It ends with `End`, which is never consumed.

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn peek_second(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|located| &located.token)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error {
            line: self.line(),
            fault: Fault::Failed(message.into()),
        })
    }

    pub(super) fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let have = match self.peek() {
            Token::Data(_) => "text".to_owned(),
            Token::OutputStart => "`{{`".to_owned(),
            Token::OutputEnd => "`}}`".to_owned(),
            Token::BlockStart => "`{%`".to_owned(),
            Token::BlockEnd => "`%}`".to_owned(),
            Token::Name(name) => format!("`{name}`"),
            Token::Text(_) => "a string".to_owned(),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::Operator(operator) => format!("`{operator}`"),
            Token::End => "the end of the template".to_owned(),
        };
        self.fail(format!("expected {expected}, found {have}"))
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(have) if have == name)
    }

    pub(super) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(have) if *have == operator)
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_operator(&mut self, operator: &str) -> Result<()> {
        match self.skip_operator(operator) {
            true => Ok(()),
            false => self.unexpected(&format!("`{operator}`")),
        }
    }

    pub(super) fn expect_name(&mut self) -> Result<String> {
        match self.peek() {
            Token::Name(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub(super) fn expect(&mut self, token: &Token, spelt: &str) -> Result<()> {
        if self.peek() != token {
            return self.unexpected(spelt);
        }
        self.at += 1;
        Ok(())
    }

    /// Runs `parse` one level of nesting deeper. All recursion of the parser passes here.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= self.depth_max {
            return Err(Error {
                line: self.line(),
                fault: Fault::Limit(Limit::Nesting),
            });
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    // Expressions.

    /// One expression.
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.nested(Self::conditional)
    }

    /// One expression, or several with commas: a tuple.
    pub(super) fn expressions(&mut self) -> Result<Expr> {
        self.tuple(Self::expression)
    }

    /// Like [`Self::expressions`], where `if` belongs to the statement.
    pub(super) fn expressions_without_if(&mut self) -> Result<Expr> {
        self.tuple(|parser| parser.nested(Self::or))
    }

    fn tuple(&mut self, item: fn(&mut Self) -> Result<Expr>) -> Result<Expr> {
        let first = item(self)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_operator(",") {
            if self.at_tuple_end() {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn at_tuple_end(&self) -> bool {
        matches!(self.peek(), Token::OutputEnd | Token::BlockEnd | Token::End)
            || self.is_operator(")")
            || self.is_operator("]")
    }

    fn conditional(&mut self) -> Result<Expr> {
        let then = self.or()?;
        self.condition(then)
    }

    /// `if test else otherwise` behind `then`; `a if b if c` nests on the left.
    fn condition(&mut self, then: Expr) -> Result<Expr> {
        if !self.skip_name("if") {
            return Ok(then);
        }
        let test = Box::new(self.or()?);
        let otherwise = match self.skip_name("else") {
            true => Some(Box::new(self.expression()?)),
            false => None,
        };
        let condition = Expr::If {
            test,
            then: Box::new(then),
            otherwise,
        };
        self.nested(|parser| parser.condition(condition))
    }

    fn or(&mut self) -> Result<Expr> {
        let first = self.and()?;
        if !self.is_name("or") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_name("or") {
            operands.push(self.and()?);
        }
        Ok(Expr::Or(operands))
    }

    fn and(&mut self) -> Result<Expr> {
        let first = self.not()?;
        if !self.is_name("and") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_name("and") {
            operands.push(self.not()?);
        }
        Ok(Expr::And(operands))
    }

    fn not(&mut self) -> Result<Expr> {
        if !self.skip_name("not") {
            return self.comparison();
        }
        Ok(Expr::Not(Box::new(self.nested(Self::not)?)))
    }

    fn comparison(&mut self) -> Result<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.skip_comparison() {
            rest.push((comparison, self.sum()?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Compare(Box::new(first), rest),
        })
    }

    fn skip_comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek() {
            Token::Operator("==") => Comparison::Eq,
            Token::Operator("!=") => Comparison::Ne,
            Token::Operator("<") => Comparison::Lt,
            Token::Operator("<=") => Comparison::Le,
            Token::Operator(">") => Comparison::Gt,
            Token::Operator(">=") => Comparison::Ge,
            Token::Name(name) if name == "in" => Comparison::In,
            Token::Name(name) if name == "not" => match self.peek_second() {
                Some(Token::Name(name)) if name == "in" => {
                    self.at += 1;
                    Comparison::NotIn
                }
                _ => return None,
            },
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn sum(&mut self) -> Result<Expr> {
        self.chain(Self::concatenation, |operator| match operator {
            "+" => Some(Operator::Add),
            "-" => Some(Operator::Sub),
            _ => None,
        })
    }

    fn concatenation(&mut self) -> Result<Expr> {
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_operator("~") {
            operands.push(self.product()?);
        }
        Ok(Expr::Concat(operands))
    }

    fn product(&mut self) -> Result<Expr> {
        self.chain(Self::power, |operator| match operator {
            "*" => Some(Operator::Mul),
            "/" => Some(Operator::Div),
            "//" => Some(Operator::FloorDiv),
            "%" => Some(Operator::Rem),
            _ => None,
        })
    }

    fn power(&mut self) -> Result<Expr> {
        self.chain(Self::filtered, |operator| {
            (operator == "**").then_some(Operator::Pow)
        })
    }

    /// Operators of one precedence, from left to right.
    fn chain(
        &mut self,
        operand: fn(&mut Self) -> Result<Expr>,
        classify: fn(&str) -> Option<Operator>,
    ) -> Result<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Token::Operator(operator) = self.peek() {
            let Some(operator) = classify(operator) else {
                break;
            };
            self.at += 1;
            rest.push((operator, operand(self)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Arithmetic(Box::new(first), rest),
        })
    }

    /// An operand with its filters and tests.
    fn filtered(&mut self) -> Result<Expr> {
        let operand = self.signed()?;
        let mut postfixes = Vec::new();
        loop {
            if self.skip_operator("|") {
                postfixes.push(Postfix::Filter(self.filter()?));
            } else if self.is_operator("(") {
                postfixes.push(Postfix::Call(self.args()?));
            } else if self.skip_name("is") {
                postfixes.push(self.test()?);
            } else {
                return Ok(with_postfixes(operand, postfixes));
            }
        }
    }

    fn signed(&mut self) -> Result<Expr> {
        if self.skip_operator("-") {
            return Ok(Expr::Negate(Box::new(self.nested(Self::signed)?)));
        }
        if self.skip_operator("+") {
            return Ok(Expr::Identity(Box::new(self.nested(Self::signed)?)));
        }
        let primary = self.primary()?;
        self.subscripts(primary)
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.next() {
            Token::Name(name) => Ok(match &*name {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => {
                    self.note_name(&name);
                    Expr::Name(name)
                }
            }),
            Token::Text(mut text) => {
                while let Token::Text(more) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Ok(Expr::Text(text))
            }
            Token::Int(value) => Ok(Expr::Int(value)),
            Token::Float(value) => Ok(Expr::Float(value)),
            Token::Operator("(") => {
                if self.skip_operator(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.expressions()?;
                self.expect_operator(")")?;
                Ok(inner)
            }
            Token::Operator("[") => Ok(Expr::List(self.separated("]", Self::expression)?)),
            Token::Operator("{") => Ok(Expr::Dict(self.separated("}", |parser| {
                let key = parser.expression()?;
                parser.expect_operator(":")?;
                Ok((key, parser.expression()?))
            })?)),
            token => {
                self.at -= usize::from(token != Token::End);
                self.unexpected("an expression")
            }
        }
    }

    fn note_name(&mut self, name: &str) {
        if let Some((varargs, kwargs)) = self.macros.last_mut() {
            *varargs |= name == "varargs";
            *kwargs |= name == "kwargs";
        }
    }

    /// Items with commas between, and perhaps after the last, up to `end`.
    fn separated<T>(&mut self, end: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.skip_operator(end) {
            if !items.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(end) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `.name`, `[item]` and `(args)` behind an operand.
    fn subscripts(&mut self, operand: Expr) -> Result<Expr> {
        let mut postfixes = Vec::new();
        loop {
            if self.skip_operator(".") {
                postfixes.push(match self.next() {
                    Token::Name(name) => Postfix::Attribute(name),
                    Token::Int(index) => Postfix::Item(Expr::Int(index)),
                    _ => return self.fail("expected a name or a number behind `.`"),
                });
            } else if self.skip_operator("[") {
                postfixes.push(self.subscript()?);
                self.expect_operator("]")?;
            } else if self.is_operator("(") {
                postfixes.push(Postfix::Call(self.args()?));
            } else {
                return Ok(with_postfixes(operand, postfixes));
            }
        }
    }

    fn subscript(&mut self) -> Result<Postfix> {
        let at_end = |parser: &Self| parser.is_operator(":") || parser.is_operator("]");
        let mut bounds = [None, None, None];
        if !self.is_operator(":") {
            let item = self.expressions()?;
            if !self.is_operator(":") {
                return Ok(Postfix::Item(item));
            }
            bounds[0] = Some(item);
        }
        for bound in &mut bounds[1..] {
            if self.skip_operator(":") && !at_end(self) {
                *bound = Some(self.expression()?);
            }
        }
        Ok(Postfix::Slice(Box::new(bounds)))
    }

    pub(super) fn filter(&mut self) -> Result<Call> {
        let name = self.expect_name()?;
        let args = match self.is_operator("(") {
            true => self.args()?,
            false => Args::default(),
        };
        Ok(Call { name, args })
    }

    fn test(&mut self) -> Result<Postfix> {
        let negated = self.skip_name("not");
        let name = self.expect_name()?;
        let operator_name =
            matches!(self.peek(), Token::Name(name) if ["else", "or", "and"].contains(&&**name));
        let starts_operand = match self.peek() {
            Token::Name(name) if name == "is" => {
                return self.fail("tests cannot be chained with `is`");
            }
            // The `if` behind a test belongs to the expression around it, and so do comparisons.
            Token::Name(name) => {
                !operator_name && !["if", "in", "not", "recursive"].contains(&&**name)
            }
            Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Operator("[" | "{") => true,
            _ => false,
        };
        let args = if self.is_operator("(") {
            self.args()?
        } else if starts_operand {
            let primary = self.nested(Self::primary)?;
            let positional = vec![self.subscripts(primary)?];
            Args {
                positional,
                ..Args::default()
            }
        } else {
            Args::default()
        };
        let call = Call { name, args };
        Ok(Postfix::Test { negated, call })
    }

    /// `(a, b, name=c, *d, **e)`
    fn args(&mut self) -> Result<Args> {
        self.expect_operator("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.skip_operator(")") {
            if !first {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            first = false;
            self.arg(&mut args)?;
        }
        Ok(args)
    }

    fn arg(&mut self, args: &mut Args) -> Result<()> {
        let is_named = matches!(self.peek(), Token::Name(_))
            && self.peek_second() == Some(&Token::Operator("="));
        if args.spread_named.is_some() {
            return self.fail("nothing may follow `**` in a call");
        }
        if self.skip_operator("**") {
            args.spread_named = Some(self.expression()?);
        } else if is_named {
            let name = self.expect_name()?;
            self.expect_operator("=")?;
            args.named.push((name, self.expression()?));
        } else if args.spread.is_some() {
            return self.fail("only named arguments may follow `*` in a call");
        } else if self.skip_operator("*") {
            args.spread = Some(self.expression()?);
        } else if args.named.is_empty() {
            args.positional.push(self.expression()?);
        } else {
            return self.fail("a positional argument follows a named one");
        }
        Ok(())
    }

    // What can be assigned to.

    /// A name, `namespace.attribute` if `attributes` are allowed, or several of them.
    pub(super) fn target(&mut self, attributes: bool) -> Result<Target> {
        let first = self.single_target(attributes)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_operator(",") {
            if !matches!(self.peek(), Token::Name(_) | Token::Operator("(")) || self.is_name("in") {
                break;
            }
            targets.push(self.single_target(attributes)?);
        }
        Ok(Target::Tuple(targets))
    }

    fn single_target(&mut self, attributes: bool) -> Result<Target> {
        if self.skip_operator("(") {
            let target = self.nested(|parser| parser.target(attributes))?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.expect_name()?;
        if attributes && self.skip_operator(".") {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        match &*name {
            "true" | "false" | "none" | "True" | "False" | "None" | "loop" => {
                self.fail(format!("`{name}` cannot be assigned to"))
            }
            _ => Ok(Target::Name(name)),
        }
    }
}

fn with_postfixes(operand: Expr, postfixes: Vec<Postfix>) -> Expr {
    match postfixes.is_empty() {
        true => operand,
        false => Expr::Postfix(Box::new(operand), postfixes),
    }
}
