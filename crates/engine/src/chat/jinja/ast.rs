//! The syntax tree.
//!
//! Chains that the grammar lets grow without end (`a + b + c`, `x.y.z`, `a|f|g`, `elif`) are lists, not nests, so the
//! tree is never deeper than the parser's limit on nesting, and neither is any walk of it.

/// A statement and the line where it begins.
#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: StmtKind,
}

pub(super) type Body = Vec<Stmt>;

#[derive(Debug)]
pub(super) enum StmtKind {
    Text(String),
    Output(Expr),
    If {
        branches: Vec<(Expr, Body)>,
        otherwise: Body,
    },
    For(Box<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Call>,
        body: Body,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Body,
    },
    FilterBlock {
        filters: Vec<Call>,
        body: Body,
    },
    Macro(Box<MacroDef>),
    /// `{% call(..) f(..) %}body{% endcall %}`: the body is the macro `caller` of the call.
    CallBlock {
        call: Expr,
        caller: Box<MacroDef>,
    },
    /// `{% generation %}`: marks what the model wrote, for training. Here only a scope.
    Generation(Body),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) filter: Option<Expr>,
    pub(super) body: Body,
    pub(super) otherwise: Body,
}

#[derive(Debug)]
pub(super) struct MacroDef {
    pub(super) name: String,
    pub(super) params: Vec<(String, Option<Expr>)>,
    pub(super) body: Body,
    /// Whether the body asks for the positional arguments beyond `params`.
    pub(super) takes_varargs: bool,
    /// Whether the body asks for the named arguments beyond `params`.
    pub(super) takes_kwargs: bool,
}

/// What can be assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(String),
    /// `namespace.attribute`
    Attribute(String, String),
    Tuple(Vec<Self>),
}

#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Name(String),
    List(Vec<Self>),
    Tuple(Vec<Self>),
    Dict(Vec<(Self, Self)>),
    Not(Box<Self>),
    Negate(Box<Self>),
    /// `+x`
    Identity(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    /// `a < b <= c`: true if each neighbour pair is.
    Compare(Box<Self>, Vec<(Comparison, Self)>),
    /// Operators of one precedence, from left to right.
    Arithmetic(Box<Self>, Vec<(Operator, Self)>),
    /// `a ~ b ~ c`
    Concat(Vec<Self>),
    /// `then if test else otherwise`
    If {
        test: Box<Self>,
        then: Box<Self>,
        otherwise: Option<Box<Self>>,
    },
    Postfix(Box<Self>, Vec<Postfix>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
}

/// What stands behind an operand and applies to it.
#[derive(Debug)]
pub(super) enum Postfix {
    Attribute(String),
    Item(Expr),
    /// `[start:stop:step]`
    Slice(Box<[Option<Expr>; 3]>),
    Call(Args),
    Filter(Call),
    Test {
        negated: bool,
        call: Call,
    },
}

/// A filter or test by name.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) args: Args,
}

#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    /// `*expr`
    pub(super) spread: Option<Expr>,
    /// `**expr`
    pub(super) spread_named: Option<Expr>,
}
